//! Writes a trace that rosetta reads; Rust's standard library alone. `rustc write_trace.rs`
//! A runtime calls `stage` after each stage; main does so with what stands on its standard input.
use std::io::{self, Read, Write};

struct Trace { header: String, data: Vec<u8> }

impl Trace {
    fn new(facts: &str) -> Self { // facts: JSON, which stands in a JSON string
        let text = facts.replace('\\', "\\\\").replace('"', "\\\"");
        Trace { header: format!("{{\"__metadata__\":{{\"rosetta\":\"{text}\"}}"), data: Vec::new() }
    }

    fn stage(&mut self, name: &str, dims: &[usize], values: &[f32]) {
        let start = self.data.len();
        values.iter().for_each(|value| self.data.extend(value.to_le_bytes()));
        let end = self.data.len();
        self.header += &format!(",\"{name}\":{{\"dtype\":\"F32\",\"shape\":{dims:?},\"data_offsets\":[{start},{end}]}}");
    }

    fn write(mut self, path: &str) -> io::Result<()> {
        self.header.push('}');
        while self.header.len() % 8 != 0 { self.header.push(' ') }
        let mut out = std::fs::File::create(path)?;
        out.write_all(&(self.header.len() as u64).to_le_bytes())?;
        out.write_all(self.header.as_bytes())?;
        out.write_all(&self.data)
    }
}

fn main() -> io::Result<()> { // write_trace OUT.safetensors FACTS < stages: "NAME DIM DIM …\n", then float32s
    let arguments: Vec<String> = std::env::args().collect();
    let (mut trace, mut input) = (Trace::new(&arguments[2]), Vec::new());
    io::stdin().read_to_end(&mut input)?;
    let mut rest = &input[..];
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        let dims: Vec<usize> = words.filter_map(|word| word.parse().ok()).collect();
        let (bytes, after) = rest[end + 1..].split_at(4 * dims.iter().product::<usize>());
        let values: Vec<f32> = bytes.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        trace.stage(name, &dims, &values);
        rest = after;
    }
    trace.write(&arguments[1])
}
