//! Declarations as people write them, and what follows from them.

use std::collections::BTreeMap;

use lab_crdt_config::{NodeFacts, Source, compare, effective, explain, files, parse, read};
use lab_crdt_model::Label;
use lab_crdt_model::limit::{PATH_BYTES_MAX, VALUE_BYTES_MAX};

/// A declaration file. What cannot be read is reported, what can be read means something.
pub fn declaration(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (declared, diagnostics) = parse(&[Source {
        name: "lab.yaml",
        text: &text,
    }]);
    for diagnostic in &diagnostics {
        assert!(diagnostic.error.span.start <= diagnostic.error.span.end);
        assert!(diagnostic.error.span.start <= text.len(), "{diagnostic:?}");
        let _shown = diagnostic.error.render("lab.yaml", &text);
    }
    let is_ours = |owners: &[String]| owners == [format!("set:{}", declared.set())];
    for (path, field) in declared.fields() {
        assert!(path.as_str().len() <= PATH_BYTES_MAX);
        assert!(
            is_ours(&field.owners),
            "{path} belongs to {:?}",
            field.owners
        );
        assert!(field.value.to_string().len() <= VALUE_BYTES_MAX);
    }
    if !declared.is_usable() {
        return;
    }

    let standing: BTreeMap<_, _> = declared
        .fields()
        .iter()
        .map(|(path, field)| (path.clone(), vec![field.clone()]))
        .collect();
    assert!(
        compare(&declared, &standing, &[]).is_empty(),
        "applied twice changes nothing"
    );

    let (intent, _issues) = read(
        declared
            .fields()
            .iter()
            .map(|(path, field)| (path, field, &[][..])),
    );
    let labels: Vec<Label> = ["role=web", "site=home", "canary"]
        .iter()
        .map(|l| l.parse().expect("a label"))
        .collect();
    let node = NodeFacts::new("nuc1", &labels);
    let config = effective(&intent, &node, &["web".to_owned()]);
    assert_eq!(
        config.hash(),
        effective(&intent, &node, &["web".to_owned()]).hash()
    );
    let (rendered, _issues) = files(&config, &node);
    for file in rendered {
        assert!(
            file.path.starts_with('/') && !file.path.split('/').any(|s| s == ".."),
            "{}",
            file.path
        );
    }
    let _shown = explain(&intent, &node, &[], None).render();
    let (_groups, _issues) = intent.selector_groups();
}
