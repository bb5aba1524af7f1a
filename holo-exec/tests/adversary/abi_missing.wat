;; Does not say which ABI it speaks.
(module
  (memory (export "memory") 1)
  (func (export "holo_task") (param i32 i32) (result i32) (i32.const 0)))
