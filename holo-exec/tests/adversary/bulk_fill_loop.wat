;; Fills its memory again and again in single instructions.
(module

  (memory (export "memory") 1)
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_task") (param i32 i32) (result i32)
    (loop $again
      (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536))
      (br $again))
    (i32.const 0)))
