;; Imports a host function with another type.
(module
  (import "holo" "rand64" (func $rand (param f64)))
  (memory (export "memory") 1)
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_task") (param i32 i32) (result i32)

    (i32.const 0)))
