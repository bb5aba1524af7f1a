(module
  (memory (export "memory") 1)
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_tile") (param $d i32)
    (local $i i64) (local $p i32) (local $end i32)
    (local.set $i (i64.load offset=8 (local.get $d)))
    (local.set $p (i32.load offset=24 (local.get $d)))
    (local.set $end (i32.add (local.get $p) (i32.mul (i32.const 8) (i32.load offset=16 (local.get $d)))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $p) (local.get $end)))
        (i64.store (local.get $p)
          (i64.add (i64.mul (local.get $i) (i64.add (local.get $i) (i64.const 3))) (i64.const 1)))
        (local.set $i (i64.add (local.get $i) (i64.const 1)))
        (local.set $p (i32.add (local.get $p) (i32.const 8)))
        (br $next)))))
