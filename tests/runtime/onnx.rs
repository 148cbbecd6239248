//! The subset of onnx.proto (field numbers: onnx/onnx.proto3) for one matrix product with weights in a file.

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Model {
    #[prost(int64, tag = "1")]
    pub ir: i64,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub opsets: Vec<Opset>,
}
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Opset {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub nodes: Vec<Node>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "5")]
    pub weights: Vec<Weight>,
    #[prost(message, repeated, tag = "11")]
    pub inputs: Vec<Info>,
    #[prost(message, repeated, tag = "12")]
    pub outputs: Vec<Info>,
}
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub inputs: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub outputs: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub op: String,
    #[prost(message, repeated, tag = "5")]
    pub attributes: Vec<Attribute>,
}
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Attribute {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(int64, tag = "3")]
    pub int: i64,
    #[prost(int32, tag = "20")]
    pub kind: i32,
}
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Weight {
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub kind: i32,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(message, repeated, tag = "13")]
    pub external: Vec<Entry>,
    #[prost(int32, tag = "14")]
    pub location: i32,
}
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Entry {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Info {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub kind: Option<Kind>,
}
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Kind {
    #[prost(message, optional, tag = "1")]
    pub tensor: Option<TensorKind>,
}
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TensorKind {
    #[prost(int32, tag = "1")]
    pub element: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Shape {
    #[prost(message, repeated, tag = "1")]
    pub dims: Vec<Dim>,
}
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Dim {
    #[prost(int64, optional, tag = "1")]
    pub value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
}

fn rows_of(name: &str, columns: i64) -> Info {
    let rows = Dim { value: None, name: Some("rows".into()) };
    let shape = Shape { dims: vec![rows, Dim { value: Some(columns), name: None }] };
    let tensor = TensorKind { element: 1, shape: Some(shape) };
    Info { name: name.into(), kind: Some(Kind { tensor: Some(tensor) }) }
}

/// `y` [rows, n] = `x` [rows, k] · weights [k, n]. The weights are f32 in the file `location` at `offset`.
pub(crate) fn product(location: &str, offset: u64, k: i64, n: i64) -> Vec<u8> {
    encode(location, offset, [k, n], false)
}

/// The same with bf16 weights and a cast to f32.
pub(crate) fn product_of_bf16(location: &str, offset: u64, k: i64, n: i64) -> Vec<u8> {
    encode(location, offset, [k, n], true)
}

fn encode(location: &str, offset: u64, [k, n]: [i64; 2], bf16: bool) -> Vec<u8> {
    let (kind, size) = if bf16 { (16, 2) } else { (1, 4) };
    let entry = |key: &str, value: String| Entry { key: key.into(), value };
    let length = (k * n * size).to_string();
    let external =
        vec![entry("location", location.into()), entry("offset", offset.to_string()), entry("length", length)];
    let weight = Weight { dims: vec![k, n], kind, name: "w".into(), external, location: 1 };
    let node = |inputs: &[&str], output: &str, name: &str, op: &str, attributes| Node {
        inputs: inputs.iter().map(|&n| n.to_owned()).collect(),
        outputs: vec![output.into()],
        name: name.into(),
        op: op.into(),
        attributes,
    };
    let to_f32 = vec![Attribute { name: "to".into(), int: 1, kind: 2 }];
    let cast = bf16.then(|| node(&["w"], "wide", "/widen", "Cast", to_f32));
    let product = node(&["x", if bf16 { "wide" } else { "w" }], "y", "/proj", "MatMul", Vec::new());
    let graph = Graph {
        nodes: cast.into_iter().chain([product]).collect(),
        name: "product".into(),
        weights: vec![weight],
        inputs: vec![rows_of("x", k)],
        outputs: vec![rows_of("y", n)],
    };
    let model = Model { ir: 10, graph: Some(graph), opsets: vec![Opset { domain: String::new(), version: 23 }] };
    prost::Message::encode_to_vec(&model)
}
