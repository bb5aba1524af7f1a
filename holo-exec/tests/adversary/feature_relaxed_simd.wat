;; An instruction whose result depends on the machine.
(module
  (memory (export "memory") 1)
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_task") (param i32 i32) (result i32)
    (drop (f64x2.relaxed_madd (v128.const i64x2 0 0) (v128.const i64x2 0 0) (v128.const i64x2 0 0))) (i32.const 0)))
