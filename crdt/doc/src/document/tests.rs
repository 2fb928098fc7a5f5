//! Equal sets of edits make equal documents, in any order of arrival.

mod history;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use lab_crdt_model::{AuthorId, Field, Hlc, MeshId, Op, Path, StatementId, Value};
use proptest::prelude::*;

use self::history::{MESH, Random, Step, live, nearest_parents, pasts, path, standing};
use crate::{Candidate, DocError, Document, Edit, Snapshot};

#[test]
fn every_order_of_arrival_gives_the_same_document() {
    let mut random = Random(1);
    let edits = live(3, None, &random.steps(2100, 3, 40));
    let first = one_by_one(&edits);
    assert_agrees_with_itself(&first);

    for _ in 0..5 {
        let other = one_by_one(&random.deliver(&edits));

        assert_eq!(other.heads(), first.heads());
        assert_eq!(view(&other), view(&first));
        assert_eq!(other.read(), first.read());
    }
}

#[test]
fn branches_of_a_fork_arrive_in_any_order() {
    let mut random = Random(2);
    let edits = live(3, Some(100), &random.steps(400, 4, 10));
    assert!(edits.iter().any(|edit| edit.branch.is_some()));
    let first = one_by_one(&edits);
    assert_agrees_with_itself(&first);

    for _ in 0..5 {
        let other = one_by_one(&random.deliver(&edits));

        assert_eq!(other.heads(), first.heads());
        assert_eq!(view(&other), view(&first));
    }
}

#[test]
fn a_batch_is_the_same_as_one_by_one() {
    let mut random = Random(3);
    let edits = live(4, None, &random.steps(600, 4, 20));

    let (one_by_one, batch) = (one_by_one(&edits), batch(&edits));

    assert_eq!(batch.heads(), one_by_one.heads());
    assert_eq!(view(&batch), view(&one_by_one));
    assert_agrees_with_itself(&batch);
}

#[test]
fn other_processes_build_the_same_document() {
    let child = || {
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "document::tests::a_child_prints_its_heads",
                "--nocapture",
            ])
            .env(CHILD, "yes")
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };

    let (first, second) = (child(), child());

    let expected = heads_line(&process_document());
    assert!(first.contains(&expected), "{first} misses {expected}");
    assert!(second.contains(&expected), "{second} misses {expected}");
}

/// Half of the test above: prints only when it was started by it.
#[test]
fn a_child_prints_its_heads() {
    if std::env::var_os(CHILD).is_some() {
        println!("{}", heads_line(&process_document()));
    }
}

const CHILD: &str = "LAB_CRDT_DOC_CHILD";

fn process_document() -> Document {
    batch(&live(3, Some(40), &Random(4).steps(200, 4, 10)))
}

fn heads_line(document: &Document) -> String {
    format!("heads {:?}", document.heads())
}

#[test]
fn rebuilding_from_what_still_counts_equals_taking_it_in_piece_by_piece() {
    let mut random = Random(5);
    let edits = live(3, None, &random.steps(500, 3, 15));
    // The second author is cut after 20 edits; what stood on the rest stands on its nearest
    // effective ancestors.
    let mut kept = Vec::new();
    let mut nearest: BTreeMap<StatementId, Vec<StatementId>> = BTreeMap::new();
    let mut of_second = 0;
    for mut edit in edits {
        edit.parents = edit
            .parents
            .iter()
            .flat_map(|parent| nearest[parent].clone())
            .collect();
        of_second += u32::from(edit.author == AuthorId([2; 32]));
        if edit.author == AuthorId([2; 32]) && of_second > 20 {
            nearest.insert(edit.id, edit.parents);
        } else {
            nearest.insert(edit.id, vec![edit.id]);
            kept.push(edit);
        }
    }
    assert!(of_second > 100);

    let (rebuilt, incremental) = (batch(&kept), one_by_one(&random.deliver(&kept)));

    assert_eq!(rebuilt.heads(), incremental.heads());
    assert_eq!(view(&rebuilt), view(&incremental));
    assert_agrees_with_itself(&rebuilt);
}

#[test]
fn redundant_parents_change_nothing() {
    let mut random = Random(6);
    let edits = live(4, Some(30), &random.steps(300, 5, 10));
    let pasts = pasts(&edits);
    let all_ancestors = |edit: &Edit| Edit {
        parents: pasts[&edit.id]
            .iter()
            .copied()
            .filter(|id| *id != edit.id)
            .collect(),
        ..edit.clone()
    };
    let redundant: Vec<_> = edits.iter().map(all_ancestors).collect();

    let plain = batch(&random.deliver(&edits));

    assert_eq!(plain.heads(), batch(&random.deliver(&redundant)).heads());
    assert_eq!(
        plain.heads(),
        batch(&random.deliver(&nearest_parents(&edits))).heads()
    );
}

#[test]
fn values_written_at_the_same_time_all_stay() {
    let mut document = Document::new(&MESH);
    let (ada, bob) = (set(1, 1, &[], 10), set(2, 2, &[], 20));

    document.apply(&[ada.clone(), bob.clone()]).unwrap();

    let standing = statements(&document, 0);
    assert_eq!(
        standing.iter().collect::<BTreeSet<_>>(),
        BTreeSet::from([&ada.id, &bob.id])
    );
    assert_agrees_with_itself(&document);

    // Whoever sees both settles it.
    document.apply(&[set(3, 1, &[1, 2], 30)]).unwrap();

    assert_eq!(statements(&document, 0), [id(3)]);
    assert_agrees_with_itself(&document);
}

#[test]
fn removing_removes_only_what_its_author_could_see() {
    let mut document = Document::new(&MESH);
    let ada = set(1, 1, &[], 10);
    let bob = set(2, 2, &[], 20);
    let removal = Edit {
        ops: vec![Op::Unset { path: path(0) }],
        ..set(3, 1, &[1], 0)
    };

    document.apply(&[ada, bob, removal.clone()]).unwrap();

    assert_eq!(statements(&document, 0), [id(2)]);
    assert_agrees_with_itself(&document);

    let all = Edit {
        id: id(4),
        parents: vec![id(2), id(3)],
        ..removal
    };
    assert_eq!(document.apply(&[all]).unwrap(), [path(0)]);

    assert_eq!(document.get(&path(0)), []);
    assert_eq!(document.fields().count(), 0);
    assert_agrees_with_itself(&document);
}

#[test]
fn someone_who_was_away_supersedes_what_was_superseded_long_ago() {
    let mut document = Document::new(&MESH);
    document
        .apply(&[set(1, 1, &[], 1), set(2, 1, &[1], 2), set(3, 1, &[2], 3)])
        .unwrap();

    document.apply(&[set(4, 2, &[1], 4)]).unwrap();

    assert_eq!(statements(&document, 0).len(), 2);
    assert_agrees_with_itself(&document);
    let other = batch(&[
        set(1, 1, &[], 1),
        set(4, 2, &[1], 4),
        set(2, 1, &[1], 2),
        set(3, 1, &[2], 3),
    ]);
    assert_eq!(document.heads(), other.heads());
}

#[test]
fn an_edit_of_nothing_joins_what_it_follows() {
    let mut document = Document::new(&MESH);
    document
        .apply(&[set(1, 1, &[], 1), set(2, 2, &[], 2)])
        .unwrap();
    assert_eq!(document.heads().len(), 2);

    let merge = Edit {
        ops: vec![],
        ..set(3, 1, &[1, 2], 0)
    };
    assert_eq!(document.apply(&[merge]).unwrap(), []);

    assert_eq!(document.heads().len(), 1);
    assert_eq!(statements(&document, 0).len(), 2);
    assert_survives_a_save(&document);
}

#[test]
fn removing_nothing_is_an_edit_of_nothing() {
    let mut document = Document::new(&MESH);
    let removal = Edit {
        ops: vec![Op::Unset { path: path(0) }],
        ..set(1, 1, &[], 0)
    };

    assert_eq!(document.apply(&[removal]).unwrap(), []);

    assert!(document.contains(&id(1)));
    assert_survives_a_save(&document);
}

#[test]
fn the_last_operation_on_a_path_counts() {
    let mut edit = set(1, 1, &[], 1);
    edit.ops.push(Op::Unset { path: path(0) });
    edit.ops.extend(set(1, 1, &[], 2).ops);
    edit.ops.extend([Op::Unset { path: path(1) }]);

    let document = batch(&[edit]);

    assert_eq!(document.get(&path(0))[0].field.value, Value::Int(2));
    assert_eq!(document.fields().count(), 1);
    assert_agrees_with_itself(&document);
}

#[test]
fn touched_paths_are_told_once_and_sorted() {
    let mut edit = set(1, 1, &[], 1);
    edit.ops.insert(
        0,
        Op::Set {
            path: path(5),
            field: Field::new(Value::Null, "person:ada"),
        },
    );

    let touched = Document::new(&MESH)
        .apply(&[edit, set(2, 1, &[1], 2)])
        .unwrap();

    assert_eq!(touched, [path(0), path(5)]);
}

#[test]
fn an_edit_counts_once() {
    let mut document = batch(&[set(1, 1, &[], 1)]);
    let heads = document.heads();

    assert_eq!(
        document
            .apply(&[set(1, 1, &[], 1), set(1, 1, &[], 1)])
            .unwrap(),
        []
    );

    assert_eq!((document.len(), document.heads()), (1, heads));
}

#[test]
fn an_unknown_parent_leaves_everything_as_it_was() {
    let mut document = batch(&[set(1, 1, &[], 1)]);
    let (heads, before) = (document.heads(), view(&document));

    // The batch starts well, with a new author, and ends badly.
    let result = document.apply(&[set(2, 2, &[1], 2), set(3, 1, &[2], 3), set(4, 3, &[9], 4)]);

    assert!(matches!(result, Err(DocError::UnknownParent { parent, .. }) if parent == id(9)));
    assert_eq!(
        (document.len(), document.heads(), view(&document)),
        (1, heads, before)
    );
    let edits = [
        set(1, 1, &[], 1),
        set(5, 4, &[1], 5),
        set(2, 2, &[1], 2),
        set(3, 1, &[2], 3),
    ];
    document.apply(&edits).unwrap();
    assert_eq!(document.heads(), batch(&edits).heads());
    assert_agrees_with_itself(&document);
}

#[test]
fn a_fork_that_was_not_announced_is_refused() {
    let mut document = batch(&[set(1, 1, &[], 1), set(2, 1, &[1], 2)]);
    let heads = document.heads();

    let result = document.apply(&[set(3, 1, &[1], 3)]);

    assert!(matches!(result, Err(DocError::Forked { .. })));
    assert_eq!(document.heads(), heads);
    let branch = Edit {
        branch: Some(id(3)),
        ..set(3, 1, &[1], 3)
    };
    document.apply(&[branch]).unwrap();
    assert_eq!(statements(&document, 0).len(), 2);
    assert_agrees_with_itself(&document);
}

#[test]
fn an_earlier_moment_is_what_a_document_of_that_past_shows() {
    let edits = live(3, None, &Random(7).steps(200, 3, 10));
    let document = batch(&edits);
    let pasts = pasts(&edits);

    for (left, right) in edits.iter().zip(edits.iter().rev()).step_by(17) {
        let of_both = |edit: &&Edit| {
            pasts[&left.id].contains(&edit.id) || pasts[&right.id].contains(&edit.id)
        };
        let then = batch(&edits.iter().filter(of_both).cloned().collect::<Vec<_>>());

        let fields = document.at(&[left.id, right.id]).unwrap();

        let fields: Vec<_> = fields.into_iter().map(|f| (f.path, f.candidates)).collect();
        assert_eq!(fields, view(&then));
    }
    assert_eq!(document.at(&[]).unwrap(), []);
    assert!(matches!(
        document.at(&[id(250)]),
        Err(DocError::UnknownStatement(_))
    ));
}

#[test]
fn a_saved_document_loads_and_goes_on() {
    let mut random = Random(8);
    let edits = live(3, Some(60), &random.steps(300, 4, 12));
    let (old, new) = edits.split_at(200);
    let mut document = Document::load(&MESH, &batch(old).save()).unwrap();
    assert_eq!(view(&document), view(&batch(old)));

    document.apply(new).unwrap();

    assert_eq!(document.heads(), batch(&edits).heads());
    assert_survives_a_save(&document);
    assert_survives_a_save(&Document::new(&MESH));
}

#[test]
fn a_save_of_another_mesh_is_refused() {
    let save = batch(&[set(1, 1, &[], 1)]).save();

    let result = Document::load(&MeshId([8; 32]), &save);

    assert!(matches!(result, Err(DocError::Foreign(_))), "{result:?}");
}

#[test]
fn a_save_with_more_in_it_than_edits_is_refused() {
    use automerge::transaction::Transactable;
    let mut automerge = automerge::AutoCommit::load(&batch(&[set(1, 1, &[], 1)]).save()).unwrap();
    automerge.put(automerge::ROOT, "guest", 1).unwrap();

    assert!(matches!(
        Document::load(&MESH, &automerge.save()),
        Err(DocError::Foreign(_))
    ));
    assert!(matches!(
        Document::load(&MESH, &automerge::Automerge::new().save()),
        Err(DocError::Foreign(_))
    ));
    assert!(matches!(
        Document::load(&MESH, b"no document"),
        Err(DocError::Load(_))
    ));
}

#[test]
fn every_kind_of_value_survives() {
    let text = "quote \" slash \\ line \n bell \u{7} ü 🦀";
    let map = BTreeMap::from([(
        text.to_owned(),
        Value::List(vec![Value::Int(i64::MIN), Value::Null]),
    )]);
    let nested = (0..8).fold(Value::Bool(true), |value, _| Value::List(vec![value]));
    let values = [
        Value::Decimal("0.10".into()),
        Value::text(text),
        Value::Map(map),
        nested,
    ];
    let field = |value| Field {
        value,
        owners: vec!["set:home".into(), "person:ada".into()],
        source: Some("lab.yaml:67:75".into()),
    };
    let op = |(n, value): (u8, Value)| Op::Set {
        path: path(n),
        field: field(value),
    };

    let document = batch(&[Edit {
        ops: (0..).zip(values).map(op).collect(),
        ..set(1, 1, &[], 0)
    }]);

    assert_agrees_with_itself(&document);
    assert_survives_a_save(&document);
}

/// The format of the document: what one version builds, every other one must build. If this fails,
/// equal replicas of two versions would show different heads.
#[test]
fn heads_are_the_same_in_every_version() {
    let mut first = set(1, 1, &[], 1);
    first.ops.push(Op::Set {
        path: "on/role=web/vars/x".parse().unwrap(),
        field: Field {
            value: Value::Map(BTreeMap::from([(
                "k".into(),
                Value::List(vec![
                    Value::Null,
                    Value::Bool(false),
                    Value::Int(-1),
                    Value::Decimal("0.5".into()),
                    Value::text("t"),
                ]),
            )])),
            owners: vec!["set:home".into()],
            source: Some("lab.yaml:1:2".into()),
        },
    });
    let branch = Edit {
        branch: Some(id(3)),
        ..set(3, 1, &[1], 3)
    };
    let unset = Edit {
        ops: vec![Op::Unset { path: path(0) }],
        ..set(4, 2, &[2, 3], 0)
    };

    assert_eq!(hex(&Document::new(&MESH)), GENESIS);
    assert_eq!(
        hex(&batch(&[first, set(2, 1, &[1], 2), branch, unset])),
        FOUR_EDITS
    );
}

const GENESIS: &str = "67edebafeffd3b1536f171b563882f91e391faf4b177016b3323c6cdbe4ce219";
const FOUR_EDITS: &str = "264cb86a18fbb21a3b57d064c90d5b4c89e9c348190d0c803b3eff66d48b0018";

fn hex(document: &Document) -> String {
    document
        .heads()
        .concat()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_stands_is_what_nobody_who_saw_it_replaced(steps in steps(), order in any::<u64>()) {
        let edits = nearest_parents(&live(3, Some(10), &steps));
        let document = one_by_one(&Random(order).deliver(&edits));

        let shown: BTreeMap<Path, BTreeSet<StatementId>> = document
            .fields()
            .map(|(path, all)| (path.clone(), all.iter().map(|one| one.statement).collect()))
            .collect();

        prop_assert_eq!(shown, standing(&edits));
        let (snapshot, issues) = document.read();
        prop_assert_eq!(issues, vec![]);
        prop_assert_eq!(snapshot.fields.into_iter().collect::<Vec<_>>(), view(&document));
    }

    #[test]
    fn order_and_batches_change_nothing(
        steps in steps(),
        orders in any::<[u64; 2]>(),
        size in 1usize..20,
    ) {
        let edits = live(3, Some(10), &steps);
        let whole = batch(&Random(orders[0]).deliver(&edits));
        let mut pieces = Document::new(&MESH);
        for piece in Random(orders[1]).deliver(&edits).chunks(size) {
            pieces.apply(piece).unwrap();
        }

        prop_assert_eq!(whole.heads(), pieces.heads());
        prop_assert_eq!(view(&whole), view(&pieces));
        prop_assert_eq!(view(&Document::load(&MESH, &whole.save()).unwrap()), view(&whole));
    }

    #[test]
    fn a_damaged_save_is_refused_or_unharmed(at in any::<prop::sample::Index>(), bits in 1u8..) {
        let document = process_document();
        let mut save = document.save();
        *at.get_mut(&mut save) ^= bits;

        if let Ok(loaded) = Document::load(&MESH, &save) {
            prop_assert_eq!(loaded.heads(), document.heads());
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let op = (0u8..5, prop::option::weighted(0.7, any::<u8>()));
    let step = (
        0usize..4,
        prop::option::weighted(0.4, 0usize..4),
        prop::collection::vec(op, 0..4),
    )
        .prop_map(|(line, hears, ops)| Step { line, hears, ops });
    prop::collection::vec(step, 0..60)
}

fn one_by_one(edits: &[Edit]) -> Document {
    let mut document = Document::new(&MESH);
    for edit in edits {
        document.apply(std::slice::from_ref(edit)).unwrap();
    }
    document
}

fn batch(edits: &[Edit]) -> Document {
    let mut document = Document::new(&MESH);
    document.apply(edits).unwrap();
    document
}

fn id(n: u8) -> StatementId {
    StatementId([n; 32])
}

/// Statement `n`: `author` sets the first path to `value`, having seen `parents`.
fn set(n: u8, author: u8, parents: &[u8], value: i64) -> Edit {
    Edit {
        id: id(n),
        author: AuthorId([author; 32]),
        branch: None,
        at: Hlc(u64::from(n) << 20 | 3),
        message: format!("edit {n}"),
        parents: parents.iter().copied().map(id).collect(),
        ops: vec![Op::Set {
            path: path(0),
            field: Field::new(Value::Int(value), "person:ada"),
        }],
    }
}

fn statements(document: &Document, at: u8) -> Vec<StatementId> {
    document
        .get(&path(at))
        .iter()
        .map(|one| one.statement)
        .collect()
}

fn view(document: &Document) -> Vec<(Path, Vec<Candidate>)> {
    document
        .fields()
        .map(|(path, all)| (path.clone(), all.to_vec()))
        .collect()
}

fn assert_agrees_with_itself(document: &Document) {
    let fields = view(document).into_iter().collect();
    assert_eq!(document.read(), (Snapshot { fields }, vec![]));
}

fn assert_survives_a_save(document: &Document) {
    let loaded = Document::load(&MESH, &document.save()).unwrap();
    assert_eq!(loaded.heads(), document.heads());
    assert_eq!(loaded.len(), document.len());
    assert_eq!(view(&loaded), view(document));
    assert_agrees_with_itself(&loaded);
}
