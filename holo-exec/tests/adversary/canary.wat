;; Hands out the first word of its memory, its data and its global, then overwrites all of them.
(module
  (import "holo" "result" (func $result (param i32 i32) (result i32)))
  (memory (export "memory") 4)
  (data (i32.const 8) "fresh")
  (global (export "holo_abi") i32 (i32.const 1))
  (global $runs (mut i32) (i32.const 0))
  (func (export "holo_task") (param i32 i32) (result i32)
    (drop (call $result (i32.const 0) (i32.const 0x40000)))
    (i32.store (i32.const 0) (global.get $runs))
    (drop (call $result (i32.const 0) (i32.const 4)))
    (memory.fill (i32.const 0) (i32.const 0xcc) (i32.const 0x40000))
    (global.set $runs (i32.const 1))
    (i32.const 0)))
