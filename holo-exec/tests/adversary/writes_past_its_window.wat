;; Fills all of its memory but the tile descriptor's page, then doubles a tile of int64.
(module
  (memory (export "memory") 1)
  (global (export "holo_abi") i32 (i32.const 1))
  (func (export "holo_tile") (param $desc i32) (result i32)
    (local $in i32) (local $out i32) (local $left i32)
    (local.set $in (i32.load offset=24 (local.get $desc)))
    (local.set $out (i32.load offset=40 (local.get $desc)))
    (local.set $left (i32.load offset=16 (local.get $desc)))
    (loop $next
      (i64.store (local.get $out) (i64.mul (i64.load (local.get $in)) (i64.const 2)))
      (local.set $in (i32.add (local.get $in) (i32.const 8)))
      (local.set $out (i32.add (local.get $out) (i32.const 8)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $next (local.get $left)))
    ;; From the end of the output to the end of memory, and all of the first page.
    (memory.fill (local.get $out) (i32.const 0xee)
      (i32.sub (i32.mul (memory.size) (i32.const 65536)) (local.get $out)))
    (memory.fill (i32.const 0) (i32.const 0xee) (i32.const 65536))
    (i32.const 0)))
