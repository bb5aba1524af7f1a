// params: elements of this chunk, index of its first element (two words), then per input the word where its bytes begin
// in `data`, then the program's constants.
@group(0) @binding(0) var<storage, read> params: array<u32>;
@group(0) @binding(1) var<storage, read> data: array<u32>;
@group(0) @binding(2) var<storage, read_write> results: array<u32>;
