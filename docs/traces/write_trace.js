// Writes a trace that rosetta reads; Node, a little-endian machine. A runtime calls stage() after each stage; as a
// program it does so with what stands on its standard input: node write_trace.js OUT.safetensors FACTS < stages
"use strict";
const fs = require("fs");

class Trace {
  constructor(facts) { // facts: an object; it stands as JSON in a JSON string
    this.header = { __metadata__: { rosetta: JSON.stringify(facts) } };
    this.parts = [];
    this.end = 0;
  }

  stage(name, shape, values) { // values: a Float32Array, row-major
    const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
    this.header[name] = { dtype: "F32", shape, data_offsets: [this.end, this.end + bytes.length] };
    this.parts.push(bytes);
    this.end += bytes.length;
  }

  write(path) {
    let text = Buffer.from(JSON.stringify(this.header), "utf8");
    text = Buffer.concat([text, Buffer.alloc((8 - (text.length % 8)) % 8, " ")]);
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.length));
    fs.writeFileSync(path, Buffer.concat([length, text, ...this.parts]));
  }
}

if (require.main === module) { // each stage: "NAME DIM DIM …\n", then float32s
  const [out, facts] = process.argv.slice(2), input = fs.readFileSync(0), trace = new Trace(JSON.parse(facts));
  for (let at = 0; at < input.length;) {
    const line = input.indexOf(10, at), [name, ...dims] = input.toString("utf8", at, line).split(" ");
    const shape = dims.map(Number), size = 4 * shape.reduce((a, b) => a * b, 1);
    trace.stage(name, shape, new Float32Array(Uint8Array.from(input.subarray(line + 1, line + 1 + size)).buffer));
    at = line + 1 + size;
  }
  trace.write(out);
}

module.exports = { Trace };
