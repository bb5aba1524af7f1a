;; Starts with 512 MiB: within the engine's ceiling, beyond a run's default limit.
(module
  (memory (export "memory") 8192)
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_task") (param i32 i32) (result i32) (i32.const 0)))
