;; Logs a line again and again.
(module
  (import "holo" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_task") (param i32 i32) (result i32)
    (loop $again
      (call $log (i32.const 2) (i32.const 0) (i32.const 16))
      (br $again))
    (i32.const 0)))
