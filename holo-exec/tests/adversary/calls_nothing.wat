;; Calls an empty slot of its table.
(module
  (table 4 funcref)
  (type $none (func))
  (memory (export "memory") 1)
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_task") (param i32 i32) (result i32)
    (call_indirect (type $none) (i32.const 2))
    (i32.const 0)))
