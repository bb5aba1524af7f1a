;; Asks for random numbers.
(module
  (import "holo" "rand64" (func $rand (result i64)))
  (memory (export "memory") 1)
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_task") (param i32 i32) (result i32)
    (drop (call $rand))
    (i32.const 0)))
