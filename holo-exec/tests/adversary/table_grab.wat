;; Grows its table until it is refused, and answers with its size.
(module
  (import "holo" "result" (func $result (param i32 i32) (result i32)))
  (table $table 1 funcref)
  (memory (export "memory") 1)
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_task") (param i32 i32) (result i32)
    (loop $again
      (br_if $again (i32.ne (table.grow $table (ref.null func) (i32.const 100)) (i32.const -1))))
    (i32.store (i32.const 0) (table.size $table))
    (call $result (i32.const 0) (i32.const 4))))
