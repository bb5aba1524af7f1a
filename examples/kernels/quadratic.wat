;; Fills an int64 output with i*i + 3*i + 1, where i is the flat index of the element.
;;
;; Eight elements an iteration in 64-bit registers: fuel metering spills SIMD registers at every back edge of a loop, but
;; not these. i*i + 3*i + 1 is computed as i*(i + 3) + 1, which wraps the same.
(module
  (memory (export "memory") 1)
  (global (export "holo_abi") i32 (i32.const 1))

  (func (export "holo_tile") (param $desc i32) (result i32)
    (local $i i64) (local $out i32) (local $end i32) (local $end8 i32)
    ;; One operand, an output of int64 (dtype 5, mode 1), or nothing is done.
    (if (i32.ne (i32.load offset=4 (local.get $desc)) (i32.const 1)) (then (return (i32.const -1))))
    (if (i32.ne (i32.load offset=32 (local.get $desc)) (i32.const 0x10005)) (then (return (i32.const -2))))
    (local.set $i (i64.load offset=8 (local.get $desc)))
    (local.set $out (i32.load offset=24 (local.get $desc)))
    (local.set $end
      (i32.add (local.get $out) (i32.shl (i32.load offset=16 (local.get $desc)) (i32.const 3))))
    (local.set $end8
      (i32.add (local.get $out)
        (i32.and (i32.sub (local.get $end) (local.get $out)) (i32.const -64))))
    (block $rest
      (br_if $rest (i32.ge_u (local.get $out) (local.get $end8)))
      (loop $eight
        (i64.store offset=0 (local.get $out)
          (i64.add (i64.mul (local.get $i) (i64.add (local.get $i) (i64.const 3))) (i64.const 1)))
        (i64.store offset=8 (local.get $out)
          (i64.add (i64.mul (i64.add (local.get $i) (i64.const 1)) (i64.add (local.get $i) (i64.const 4))) (i64.const 1)))
        (i64.store offset=16 (local.get $out)
          (i64.add (i64.mul (i64.add (local.get $i) (i64.const 2)) (i64.add (local.get $i) (i64.const 5))) (i64.const 1)))
        (i64.store offset=24 (local.get $out)
          (i64.add (i64.mul (i64.add (local.get $i) (i64.const 3)) (i64.add (local.get $i) (i64.const 6))) (i64.const 1)))
        (i64.store offset=32 (local.get $out)
          (i64.add (i64.mul (i64.add (local.get $i) (i64.const 4)) (i64.add (local.get $i) (i64.const 7))) (i64.const 1)))
        (i64.store offset=40 (local.get $out)
          (i64.add (i64.mul (i64.add (local.get $i) (i64.const 5)) (i64.add (local.get $i) (i64.const 8))) (i64.const 1)))
        (i64.store offset=48 (local.get $out)
          (i64.add (i64.mul (i64.add (local.get $i) (i64.const 6)) (i64.add (local.get $i) (i64.const 9))) (i64.const 1)))
        (i64.store offset=56 (local.get $out)
          (i64.add (i64.mul (i64.add (local.get $i) (i64.const 7)) (i64.add (local.get $i) (i64.const 10))) (i64.const 1)))
        (local.set $i (i64.add (local.get $i) (i64.const 8)))
        (local.set $out (i32.add (local.get $out) (i32.const 64)))
        (br_if $eight (i32.lt_u (local.get $out) (local.get $end8)))))
    (block $done
      (loop $one
        (br_if $done (i32.ge_u (local.get $out) (local.get $end)))
        (i64.store (local.get $out)
          (i64.add (i64.mul (local.get $i) (i64.add (local.get $i) (i64.const 3))) (i64.const 1)))
        (local.set $i (i64.add (local.get $i) (i64.const 1)))
        (local.set $out (i32.add (local.get $out) (i32.const 8)))
        (br $one)))
    (i32.const 0)))
