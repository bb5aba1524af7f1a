;; Fails with a message outside its memory.
(module
  (import "holo" "fail" (func $fail (param i32 i32 i32)))
  (memory (export "memory") 1)
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_task") (param i32 i32) (result i32)
    (call $fail (i32.const 3) (i32.const 0) (i32.const -1))
    (i32.const 0)))
