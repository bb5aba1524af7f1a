;; A struct on the engine's heap.
(module
  (memory (export "memory") 1)
  (type $pair (struct (field i32)))
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_task") (param i32 i32) (result i32)
    (drop (struct.new_default $pair)) (i32.const 0)))
