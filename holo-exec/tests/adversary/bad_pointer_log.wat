;; Logs text outside its memory.
(module
  (import "holo" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_task") (param i32 i32) (result i32)
    (call $log (i32.const 2) (i32.const 65530) (i32.const 7))
    (i32.const 0)))
