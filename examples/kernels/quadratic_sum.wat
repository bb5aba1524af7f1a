;; Sums an int64 input, modulo 2^64.
;;
;; Thirty-two elements an iteration: sixteen vectors are added up in two trees, so only two accumulators live across the
;; back edge of the loop, where fuel metering spills SIMD registers.
(module
  (memory (export "memory") 1)
  (global (export "holo_abi") i32 (i32.const 1))
  (global $sum (mut i64) (i64.const 0))

  (func (export "holo_tile") (param $desc i32) (result i32)
    (local $in i32) (local $end i32) (local $end32 i32) (local $a v128) (local $b v128) (local $tail i64)
    ;; One operand, an input of int64 (dtype 5, mode 0), or nothing is done.
    (if (i32.ne (i32.load offset=4 (local.get $desc)) (i32.const 1)) (then (return (i32.const -1))))
    (if (i32.ne (i32.load offset=32 (local.get $desc)) (i32.const 0x00005)) (then (return (i32.const -2))))
    (local.set $in (i32.load offset=24 (local.get $desc)))
    (local.set $end
      (i32.add (local.get $in) (i32.shl (i32.load offset=16 (local.get $desc)) (i32.const 3))))
    (local.set $end32
      (i32.add (local.get $in)
        (i32.and (i32.sub (local.get $end) (local.get $in)) (i32.const -256))))
    (block $rest
      (br_if $rest (i32.ge_u (local.get $in) (local.get $end32)))
      (loop $many
        (local.set $a
          (i64x2.add
            (local.get $a)
            (i64x2.add
              (i64x2.add
                (i64x2.add
                  (v128.load offset=0 (local.get $in))
                  (v128.load offset=16 (local.get $in)))
                (i64x2.add
                  (v128.load offset=32 (local.get $in))
                  (v128.load offset=48 (local.get $in))))
              (i64x2.add
                (i64x2.add
                  (v128.load offset=64 (local.get $in))
                  (v128.load offset=80 (local.get $in)))
                (i64x2.add
                  (v128.load offset=96 (local.get $in))
                  (v128.load offset=112 (local.get $in)))))))
        (local.set $b
          (i64x2.add
            (local.get $b)
            (i64x2.add
              (i64x2.add
                (i64x2.add
                  (v128.load offset=128 (local.get $in))
                  (v128.load offset=144 (local.get $in)))
                (i64x2.add
                  (v128.load offset=160 (local.get $in))
                  (v128.load offset=176 (local.get $in))))
              (i64x2.add
                (i64x2.add
                  (v128.load offset=192 (local.get $in))
                  (v128.load offset=208 (local.get $in)))
                (i64x2.add
                  (v128.load offset=224 (local.get $in))
                  (v128.load offset=240 (local.get $in)))))))
        (local.set $in (i32.add (local.get $in) (i32.const 256)))
        (br_if $many (i32.lt_u (local.get $in) (local.get $end32)))))
    (block $done
      (loop $one
        (br_if $done (i32.ge_u (local.get $in) (local.get $end)))
        (local.set $tail (i64.add (local.get $tail) (i64.load (local.get $in))))
        (local.set $in (i32.add (local.get $in) (i32.const 8)))
        (br $one)))
    (local.set $a (i64x2.add (local.get $a) (local.get $b)))
    (global.set $sum
      (i64.add (i64.add (global.get $sum) (local.get $tail))
        (i64.add (i64x2.extract_lane 0 (local.get $a)) (i64x2.extract_lane 1 (local.get $a)))))
    (i32.const 0))

  ;; The partial result: eight bytes, little-endian.
  (func (export "holo_finish") (param $out i32) (param $cap i32) (result i32)
    (if (i32.lt_u (local.get $cap) (i32.const 8)) (then (return (i32.const -1))))
    (i64.store (local.get $out) (global.get $sum))
    (i32.const 8))

  (func (export "holo_combine")
    (param $a i32) (param $a_len i32) (param $b i32) (param $b_len i32) (param $out i32) (param $cap i32)
    (result i32)
    (if (i32.ne (i32.and (local.get $a_len) (local.get $b_len)) (i32.const 8)) (then (return (i32.const -1))))
    (if (i32.lt_u (local.get $cap) (i32.const 8)) (then (return (i32.const -1))))
    (i64.store (local.get $out) (i64.add (i64.load (local.get $a)) (i64.load (local.get $b))))
    (i32.const 8)))
