;; An exception.
(module
  (memory (export "memory") 1)
  (tag $t)
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_task") (param i32 i32) (result i32)
    (throw $t)))
