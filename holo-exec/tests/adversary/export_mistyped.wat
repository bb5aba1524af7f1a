;; A task with other parameters.
(module
  (memory (export "memory") 1)
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_task") (param i64) (result i32) (i32.const 0)))
