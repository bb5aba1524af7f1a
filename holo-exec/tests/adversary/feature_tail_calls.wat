;; A tail call.
(module
  (memory (export "memory") 1)
  (func $f (result i32) (i32.const 0))
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_task") (param i32 i32) (result i32)
    (return_call $f)))
