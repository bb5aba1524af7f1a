;; Grows its memory until it is refused, and answers with a negative status.
(module

  (memory (export "memory") 1)
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_task") (param i32 i32) (result i32)
    (loop $again
      (if (i32.eq (memory.grow (i32.const 64)) (i32.const -1)) (then (return (i32.const -12))))
      (br $again))
    (i32.const 0)))
