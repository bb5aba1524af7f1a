;; Burns fuel, then divides by zero, after which the engine counts no fuel.
(module
  (global $n (mut i32) (i32.const 0))
  (memory (export "memory") 1)
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_task") (param i32 i32) (result i32)
    (loop $again
      (global.set $n (i32.add (global.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (global.get $n) (i32.const 1000))))
    (drop (i32.div_u (i32.const 1) (i32.const 0)))
    (i32.const 0)))
