//! Every rule finds what breaks it, and accepts what does not.

use super::{
    circles::circles,
    imports::import_faults,
    rules::{class_name_faults, length_fault},
    tree::Source,
};

#[test]
fn violations_are_seen() {
    let table: &[(&str, &str, &[&str])] = &[
        ("src/arch/flux.rs", "use crate::{onnx::Scope, runtime::Engine};", &["imports runtime"]),
        ("src/arch/flux.rs", "use crate::{\n    error::{Error, At},\n    weights,\n};", &[]),
        ("src/arch/flux.rs", "// crate::runtime\nlet s = \"crate::runtime::X\"; /* crate::cli::y /* nested */ */", &[]),
        (
            "src/arch/flux.rs",
            "let s = r#\"crate::runtime::X \"quoted\" \"#; let c = '\"'; crate::media::open();",
            &["imports media"],
        ),
        ("src/arch/flux.rs", "#[cfg(test)]\nmod tests { use crate::runtime::Engine; }", &[]),
        ("src/arch/flux.rs", "#[cfg(test)] mod tests { fn f() {} } use crate::runtime::Engine;", &["imports runtime"]),
        ("src/weights/zip.rs", "use super::super::cli::args;", &["imports cli"]),
        ("src/weights.rs", "use super::onnx::Scope;", &["imports onnx"]),
        ("src/stage/grow.rs", "use super::denoise::Step;", &["imports stage::denoise"]),
        ("src/stage/grow.rs", "use crate::stage::{denoise, grow};", &["imports stage::denoise"]),
        ("src/stage/grow/plan.rs", "use super::Level;", &[]),
        ("src/stage.rs", "pub mod grow; use grow::Level;", &[]),
        ("src/family/flux.rs", "fn f(x: crate::stage::Text) -> Result<(), crate::Error> {}", &["imports stage"]),
        ("src/media/video.rs", "use ort::session::Session; use ffmpeg_next as ffmpeg;", &["crate ort"]),
        (
            "src/stage/text.rs",
            "use ffmpeg_next as ffmpeg; let x = &ort::value::Value::new();",
            &["crate ffmpeg_next", "crate ort"],
        ),
        ("src/main.rs", "use crescendo::{cli, weights};", &["imports weights"]),
        ("src/cli.rs", "use crate::{self as lib, pipeline::{self, Job}, tensor::*};", &[]),
    ];
    let siblings = ["denoise", "grow"].map(String::from).into();
    let mut wrong = Vec::new();
    for (file, text, wanted) in table {
        let found = import_faults(&Source::new(file, text), &siblings);
        let matches =
            found.len() == wanted.len() && found.iter().zip(*wanted).all(|(fault, part)| fault.contains(part));
        if !matches {
            wrong.push(format!("{file} {text:?}: expected {wanted:?}, found {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// (file, text) of a tree, then the edges of its circles.
type Circle = (&'static [(&'static str, &'static str)], &'static [&'static str]);

#[test]
fn circles_are_seen() {
    let table: &[Circle] = &[
        (&[("a", "use crate::b::f;"), ("b", "pub fn f() { crate::a::g() }")], &["a b", "b a"]),
        (&[("a", "use crate::b;\nfn g() { b::f() }"), ("b", "use super::a::g;")], &["a b", "b a"]),
        (
            &[("a", "use crate::b::h;"), ("b", "use crate::c::f;\npub fn h() {}"), ("c", "use crate::a::g;")],
            &["a b", "b c", "c a"],
        ),
        // One way is no circle, nor is what tests and comments say.
        (&[("a", "use crate::b::f;"), ("b", "fn f() {}")], &[]),
        (&[("a", "use crate::b::f;"), ("b", "#[cfg(test)]\nmod tests { use crate::a::g; }\n// crate::a::g")], &[]),
        // A parent that re-exports its child does not import it; one that uses it does.
        (&[("m/mod", "mod c;\npub use c::T;\npub struct S;"), ("m/c", "use super::S;")], &[]),
        (
            &[("m/mod", "mod c;\npub use c::T;\npub struct S(T);"), ("m/c", "use super::S;")],
            &["m/c m/mod", "m/mod m/c"],
        ),
        (&[("m", "mod c;\nuse c::T;\npub struct S;"), ("m/c", "use super::S;")], &["m m/c", "m/c m"]),
        (&[("m", "mod c;\npub struct S(c::T);"), ("m/c", "use super::*;")], &["m m/c", "m/c m"]),
        // Re-exports are followed, by name, alias and glob, to the file that defines the item.
        (
            &[
                ("m/mod", "mod c; mod d;\npub use c::T; pub use d::*;"),
                ("m/c", "use super::U;"),
                ("m/d", "use super::T; pub struct U;"),
            ],
            &["m/c m/d", "m/d m/c"],
        ),
        (
            &[
                ("m/mod", "mod c;\npub use c::f as h;"),
                ("m/c", "use crate::a::g;"),
                ("a", "use crate::m; fn g() { m::h() }"),
            ],
            &["a m/c", "m/c a"],
        ),
        (
            &[("m/mod", "mod f;\npub use f::f;"), ("m/f", "use crate::a::g;"), ("a", "use crate::m::f;")],
            &["a m/f", "m/f a"],
        ),
        (&[("m/mod", "mod c; mod d;\npub use c::T;"), ("m/c", "pub struct T;"), ("m/d", "use super::T;")], &[]),
        // `use<…>` of a return type is no import.
        (&[("a", "use crate::b::f; fn g<'a>() -> impl Sized + use<'a> { f() }"), ("b", "fn f() {}")], &[]),
    ];
    let mut wrong = Vec::new();
    for (files, wanted) in table {
        let sources: Vec<Source> =
            files.iter().map(|(name, text)| Source::new(&format!("src/{name}.rs"), text)).collect();
        let short = |name: &str| name.trim_start_matches("src/").trim_end_matches(".rs").to_owned();
        let mut found: Vec<String> =
            circles(&sources).iter().map(|(from, to)| format!("{} {}", short(from), short(to))).collect();
        found.sort();
        if found != *wanted {
            wrong.push(format!("{files:?}: expected {wanted:?}, found {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn class_names_and_long_files_are_seen() {
    let table: &[(&str, &str, usize)] = &[
        ("src/compile/mod.rs", r#"match class { "FluxTransformer2DModel" | "AutoencoderKLWan" => 1 }"#, 2),
        ("src/arch/flux.rs", r#"const CLASSES: &[&str] = &["FluxTransformer2DModel"];"#, 0),
        ("src/arch/mod.rs", r#"match class { "CLIPTextModel" => 1 }"#, 1),
        ("src/family/mod.rs", r#"match class { "FluxPipeline" => 1 }"#, 1),
        ("src/family/flux.rs", r#"let c = "FluxPipeline"; let d = "FluxTransformer2DModel";"#, 1),
        ("src/pipeline/generate.rs", r#"let c = "WanPipeline";"#, 1),
        ("src/hub/files.rs", "#[cfg(test)]\nmod tests { const C: &str = \"FluxPipeline\"; }\n// \"FluxPipeline\"", 0),
        ("src/cli/args.rs", r#"let text = "The Model"; let name = "Pipelines"; let word = "Pipeline";"#, 0),
    ];
    for (file, text, wanted) in table {
        let found = class_name_faults(&Source::new(file, text));
        assert_eq!(found.len(), *wanted, "{file} {text:?}: {found:?}");
    }
    assert_eq!(length_fault(&"x\n".repeat(500)), None);
    assert!(length_fault(&"x\n".repeat(501)).is_some());
}
