//! An exported folder is a model, even if no graph reads the last shards of its language model.

use std::path::Path;

use crescendo::{
    pipeline::{export, plan_generate},
    plan::ExportPlan,
};

use crate::plans;

#[test]
fn an_exported_folder_is_a_model() {
    for model in ["flux2-klein", "z-image"] {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let source = Path::new("tests/goldens").join(model).join("model");
        let plan = ExportPlan {
            name: model.into(),
            model: source.clone(),
            output: folder.path().to_path_buf(),
            size: Some((64, 96)),
            runtime: plans::runtime(),
            ..ExportPlan::default()
        };
        export(&plan).unwrap();
        let of = |path: &Path| plan_generate(&plans::generate(path, "a fox")).map(|p| (p.weights_bytes, p.model));
        assert_eq!(of(folder.path()).unwrap(), of(&source).unwrap(), "{model}");
        export(&plan).unwrap();
    }
}
