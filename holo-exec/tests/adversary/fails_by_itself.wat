;; Fails with a message.
(module
  (import "holo" "fail" (func $fail (param i32 i32 i32)))
  (data (i32.const 16) "no such row")
  (memory (export "memory") 1)
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_task") (param i32 i32) (result i32)
    (call $fail (i32.const 7) (i32.const 16) (i32.const 11))
    (i32.const 0)))
