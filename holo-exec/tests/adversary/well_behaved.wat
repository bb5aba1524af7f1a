;; Answers with its arguments and a random number.
(module
  (import "holo" "result" (func $result (param i32 i32) (result i32)))
  (import "holo" "rand64" (func $rand (result i64)))
  (memory (export "memory") 1)
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_task") (param $args i32) (param $len i32) (result i32)
    (drop (call $result (local.get $args) (local.get $len)))
    (i64.store (i32.const 0) (call $rand))
    (call $result (i32.const 0) (i32.const 8))))
