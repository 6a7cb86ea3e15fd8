use super::*;
use proptest::prelude::*;
use snapshot::Kind;

fn id(kind: Kind, number: u8) -> ResourceId {
    (kind, number.to_string().into())
}

fn group(number: u8) -> Name {
    format!("g{number}").into()
}

/// A resource as a test says it.
#[derive(Clone, Debug, Default)]
struct Said {
    body: u8,
    groups: BTreeSet<u8>,
    to: BTreeSet<u8>,
    part_of: Option<u8>,
}

/// Routes 0 to 3 refer to upstreams, upstreams to what stands for shards, shards are parts of that.
const LAYERS: [Kind; 3] = [Kind::Route, Kind::Upstream, Kind::EndpointShard];

fn whole(number: u8) -> ResourceId {
    (Kind::EndpointShard, format!("whole{number}").into())
}

fn links(layer: usize, said: &Said) -> Links {
    let to = said.to.iter().map(|n| match layer {
        0 => id(Kind::Upstream, *n),
        _ => whole(*n),
    });
    Links {
        listeners: BTreeSet::new(),
        to: if layer < 2 {
            to.collect()
        } else {
            BTreeSet::new()
        },
        part_of: said.part_of.filter(|_| layer == 2).map(whole),
    }
}

/// What each group holds, found by following every reference from the roots.
fn naive(there: &BTreeMap<(usize, u8), Said>) -> BTreeMap<Name, BTreeMap<ResourceId, u8>> {
    let mut all: BTreeMap<Name, BTreeMap<ResourceId, u8>> = BTreeMap::new();
    for ((layer, number), said) in there.iter().filter(|((layer, _), _)| *layer == 0) {
        for g in &said.groups {
            let held = all.entry(group(*g)).or_default();
            held.insert(id(LAYERS[*layer], *number), said.body);
            for upstream in &said.to {
                let Some(found) = there.get(&(1, *upstream)) else {
                    continue;
                };
                held.insert(id(Kind::Upstream, *upstream), found.body);
                for ((_, n), shard) in there.iter().filter(|((layer, _), _)| *layer == 2) {
                    if shard.part_of.is_some_and(|part| found.to.contains(&part)) {
                        held.insert(id(Kind::EndpointShard, *n), shard.body);
                    }
                }
            }
        }
    }
    all
}

fn said() -> impl Strategy<Value = Said> {
    let numbers = || prop::collection::btree_set(0..4u8, 0..3);
    (any::<u8>(), numbers(), numbers(), prop::option::of(0..4u8)).prop_map(
        |(body, groups, to, part_of)| Said {
            body,
            groups,
            to,
            part_of,
        },
    )
}

proptest! {
    /// Whatever came, moved and went before: each group holds what can be reached from its roots, and nothing else.
    #[test]
    fn counting_equals_following(
        steps in prop::collection::vec(
            (
                prop::collection::btree_map(0..4u8, prop::collection::btree_set(0..4u8, 0..3), 0..2),
                prop::collection::vec((0..3usize, 0..4u8, prop::option::weighted(0.7, said())), 1..5),
            ),
            1..20,
        )
    ) {
        let mut closure = Closure::default();
        let mut there: BTreeMap<(usize, u8), Said> = BTreeMap::new();
        let mut held: BTreeMap<Name, BTreeMap<ResourceId, u8>> = BTreeMap::new();
        for (moves, step) in steps {
            let mut moved = Vec::new();
            for (number, groups) in moves {
                if let Some(said) = there.get_mut(&(0, number)) {
                    moved.push((id(LAYERS[0], number), groups.iter().map(|g| group(*g)).collect()));
                    said.groups = groups;
                }
            }
            let changes = closure.apply(moved, step.into_iter().map(|(layer, number, said)| {
                match &said {
                    Some(said) => drop(there.insert((layer, number), said.clone())),
                    None => drop(there.remove(&(layer, number))),
                }
                let body = said.as_ref().map(|said| Bytes::from(vec![said.body]));
                let said = said.unwrap_or_default();
                let roots = said.groups.iter().filter(|_| layer == 0).map(|g| group(*g));
                (id(LAYERS[layer], number), body, roots.collect(), links(layer, &said))
            }).collect::<Vec<_>>());
            for (group, changes) in changes {
                let held = held.entry(group).or_default();
                for (id, body) in changes {
                    match body {
                        Some(body) => drop(held.insert(id, body[0])),
                        None => drop(held.remove(&id)),
                    }
                }
            }
            held.retain(|_, resources| !resources.is_empty());
            prop_assert_eq!(&held, &naive(&there));
            for (group, resources) in &held {
                for id in resources.keys() {
                    let mut holders = closure.holders(id).into_iter().flatten();
                    prop_assert!(holders.any(|holder| holder == group));
                }
            }
        }
    }

    /// Nothing is remembered of what is gone.
    #[test]
    fn nothing_remains(all in prop::collection::btree_map((0..3usize, 0..4u8), said(), 0..12)) {
        let mut closure = Closure::default();
        let one = |layer: usize, number: u8, said: Option<&Said>| {
            let body = said.map(|said| Bytes::from(vec![said.body]));
            let said = said.cloned().unwrap_or_default();
            let roots = said.groups.iter().map(|g| group(*g)).collect();
            (id(LAYERS[layer], number), body, roots, links(layer, &said))
        };
        closure.apply([], all.iter().map(|((layer, number), said)| one(*layer, *number, Some(said))));
        closure.apply([], all.keys().map(|(layer, number)| one(*layer, *number, None)));
        prop_assert!(closure.nodes.len() == 0);
    }
}

/// A body that does not change travels to those alone that need it for the first time.
#[test]
fn only_what_is_new_travels() {
    let mut closure = Closure::default();
    let pool = id(Kind::Upstream, 1);
    let to_pool = Links {
        to: [pool.clone()].into(),
        ..Links::default()
    };
    let body = || Some(Bytes::from_static(b"x"));
    let route = |n, groups: &[u8]| {
        let roots = groups.iter().map(|g| group(*g)).collect();
        (id(Kind::Route, n), body(), roots, to_pool.clone())
    };
    let upstream = (pool.clone(), body(), Few::default(), Links::default());
    let first = closure.apply([], [route(1, &[1]), upstream]);
    assert_eq!(first.keys().collect::<Vec<_>>(), [&group(1)]);
    // Another Route of the same group brings itself alone; one of another group brings the upstream with it.
    let second = closure.apply([], [route(2, &[1]), route(3, &[2])]);
    let keys = |g| second[&group(g)].keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(1), [id(Kind::Route, 2)]);
    assert_eq!(keys(2), [id(Kind::Route, 3), pool.clone()]);
    // It goes with the last that refers to it.
    let gone = |n| (id(Kind::Route, n), None, Few::default(), Links::default());
    let third = closure.apply([], [gone(3)]);
    assert_eq!(third[&group(2)].get(&pool), Some(&None));
    assert!(!third.contains_key(&group(1)));
}
