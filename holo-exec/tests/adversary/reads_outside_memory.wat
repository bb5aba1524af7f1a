;; Loads from an address that it does not have.
(module

  (memory (export "memory") 1)
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_task") (param i32 i32) (result i32)
    (drop (i32.load (i32.const 0x7fffffff)))
    (i32.const 0)))
