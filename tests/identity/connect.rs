//! Connectivity against components computed from scratch.

use std::collections::BTreeMap;

use deltawatch::views::identity::graph::{Component, Connectivity, Part, SMALL_MAX, Total};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A vertex with a weight and an age.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Piece {
    weight: u64,
    since: i64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Pieces {
    weight: u64,
    since: i64,
}

impl Default for Pieces {
    fn default() -> Self {
        Pieces { weight: 0, since: i64::MAX }
    }
}

impl Part for Piece {
    type Total = Pieces;

    fn add_to(&self, total: &mut Pieces) {
        if self.weight > 0 {
            total.add(&Pieces { weight: self.weight, since: self.since });
        }
    }

    fn is_account(&self) -> bool {
        self.weight % 3 == 1
    }
}

impl Total for Pieces {
    fn add(&mut self, other: &Self) {
        self.weight += other.weight;
        self.since = self.since.min(other.since);
    }

    fn subtract(&mut self, other: &Self) -> bool {
        self.weight -= other.weight;
        self.since < other.since
    }
}

fn piece(vertex: u32) -> Piece {
    Piece { weight: u64::from(vertex) + 1, since: i64::from(vertex.wrapping_mul(2_654_435_769) >> 8) }
}

/// Components by a walk over all edges: vertex to smallest vertex and component.
fn from_scratch(vertices: u32, edges: &BTreeMap<u32, (u32, u32)>) -> Vec<(u32, Component<Pieces>)> {
    let mut parent: Vec<u32> = (0..=vertices).collect();
    fn find(parent: &mut [u32], mut v: u32) -> u32 {
        while parent[v as usize] != v {
            parent[v as usize] = parent[parent[v as usize] as usize];
            v = parent[v as usize];
        }
        v
    }
    for &(a, b) in edges.values() {
        let (a, b) = (find(&mut parent, a), find(&mut parent, b));
        parent[a.max(b) as usize] = a.min(b);
    }
    let mut of = vec![Component::<Pieces>::default(); vertices as usize + 1];
    for vertex in 1..=vertices {
        let component = &mut of[find(&mut parent, vertex) as usize];
        component.size += 1;
        component.accounts += u32::from(piece(vertex).is_account());
        component.total.add(&piece(vertex).total());
    }
    for &(a, _) in edges.values() {
        of[find(&mut parent, a) as usize].links += 1;
    }
    (0..=vertices)
        .map(|vertex| {
            let root = find(&mut parent, vertex);
            (root, of[root as usize])
        })
        .collect()
}

fn check(graph: &mut Connectivity<Piece>, vertices: u32, edges: &BTreeMap<u32, (u32, u32)>) {
    let expected = from_scratch(vertices, edges);
    let mut degrees = vec![0u32; vertices as usize + 1];
    edges.values().flat_map(|&(a, b)| [a, b]).for_each(|vertex| degrees[vertex as usize] += 1);
    let mut hubs = vec![0u32; vertices as usize + 1];
    for vertex in 1..=vertices as usize {
        let hub = &mut hubs[expected[vertex].0 as usize];
        *hub = degrees[vertex].max(*hub);
    }
    let mut roots = std::collections::BTreeSet::new();
    for vertex in 1..=vertices {
        let (root, component) = expected[vertex as usize];
        assert_eq!(graph.component(vertex), component, "vertex {vertex}");
        if component.size <= SMALL_MAX {
            assert_eq!(graph.largest_degree(vertex), hubs[root as usize], "most edges in the component of {vertex}");
        }
        assert!(graph.connected(vertex, root), "{vertex} and {root}");
        if roots.last() != Some(&root) {
            roots.insert(root);
        }
    }
    assert_eq!(graph.components(), roots.len());
    for pair in roots.iter().collect::<Vec<_>>().windows(2) {
        assert!(!graph.connected(*pair[0], *pair[1]));
    }
}

fn graph(vertices: u32) -> Connectivity<Piece> {
    let mut graph = Connectivity::default();
    (1..=vertices).for_each(|vertex| graph.add(vertex, piece(vertex)));
    graph
}

/// Random edges come and go, denser and sparser in turns, so that components cross the sizes where they change form.
fn random_edges(seed: u64, vertices: u32, steps: usize, density: f64) {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut graph, mut edges) = (graph(vertices), BTreeMap::new());
    let mut free: Vec<u32> = (1..=vertices * 4).rev().collect();
    for step in 0..steps {
        let wave = 1.0 + (step as f64 / steps as f64 * 12.0).sin();
        let wanted = (f64::from(vertices) * density * wave) as usize;
        if edges.len() < wanted && !free.is_empty() {
            let (a, b) = (random.random_range(1..=vertices), random.random_range(1..=vertices));
            if a != b {
                let edge = free.pop().expect("one is free");
                let apart = !graph.connected(a, b);
                assert_eq!(graph.link(edge, a, b), apart);
                edges.insert(edge, (a, b));
                assert!(graph.connected(a, b));
            }
        } else if !edges.is_empty() {
            let at = random.random_range(0..edges.len());
            let (&edge, &(a, b)) = edges.iter().nth(at).expect("it is there");
            edges.remove(&edge);
            let splits = graph.unlink(edge);
            assert_eq!(splits, !graph.connected(a, b));
            free.push(edge);
        }
        if step % 97 == 0 || step + 1 == steps {
            check(&mut graph, vertices, &edges);
        }
    }
    let mut left: Vec<u32> = edges.keys().copied().collect();
    while !left.is_empty() {
        let edge = left.swap_remove(random.random_range(0..left.len()));
        graph.unlink(edge);
        edges.remove(&edge);
        if left.len().is_multiple_of(211) {
            check(&mut graph, vertices, &edges);
        }
    }
    check(&mut graph, vertices, &edges);
    assert_eq!(graph.nodes(), 0, "tours are left");
    (1..=vertices).for_each(|vertex| graph.remove(vertex));
    assert!(graph.is_empty());
    assert_eq!(graph.bytes(), 0, "memory is left");
}

#[test]
fn equals_components_from_scratch_over_seeds() {
    let seeds = if std::env::var_os("DELTAWATCH_FULL").is_some() { 400 } else { 8 };
    for seed in 0..seeds {
        random_edges(seed, 60, 2_000, 0.6);
        // Components go beyond SMALL_MAX and fall below SMALL_AGAIN.
        random_edges(100_000 + seed, 1_200, 5_000, 0.55);
        random_edges(200_000 + seed, 600, 4_000, 1.5);
    }
}

/// Two dense halves and two edges between them, which go and come again: nearly nothing that is looked at joins them.
#[test]
fn two_edges_between_dense_halves_take_turns() {
    let half = 300;
    let mut random = StdRng::seed_from_u64(5);
    let (mut graph, mut edges) = (graph(2 * half), BTreeMap::new());
    for edge in 1..=2_400 {
        let base = if edge % 2 == 0 { 0 } else { half };
        let a = random.random_range(1..=half);
        let b = 1 + (a + random.random_range(0..half - 1)) % half;
        edges.insert(edge, (base + a, base + b));
        graph.link(edge, base + a, base + b);
    }
    for round in 0..200 {
        for edge in [3_000, 3_001] {
            if edges.remove(&edge).is_some() {
                graph.unlink(edge);
            } else if round % 7 != 3 || edge == 3_000 {
                let ends = (random.random_range(1..=half), half + random.random_range(1..=half));
                edges.insert(edge, ends);
                graph.link(edge, ends.0, ends.1);
            }
            if round % 10 == 0 {
                check(&mut graph, 2 * half, &edges);
            }
        }
    }
    check(&mut graph, 2 * half, &edges);
}

#[test]
fn a_changed_vertex_changes_its_component_only() {
    let count = SMALL_MAX * 3;
    let mut graph = graph(count);
    for vertex in 2..=count {
        if vertex != SMALL_MAX {
            graph.link(vertex, vertex - 1, vertex);
        }
    }
    for vertex in [1, SMALL_MAX, count] {
        let (small, large) = (graph.component(1).total, graph.component(count).total);
        graph.set_part(vertex, Piece { weight: 10_000, since: -1 });
        let (now_small, now_large) = (graph.component(1).total, graph.component(count).total);
        assert_eq!(vertex < SMALL_MAX, now_small != small);
        assert_eq!(vertex >= SMALL_MAX, now_large != large);
        graph.set_part(vertex, piece(vertex));
        assert_eq!((graph.component(1).total, graph.component(count).total), (small, large));
    }
}

/// A path as long as a component may get needs no stack, whichever way it is built and taken apart.
#[test]
fn a_long_path_needs_no_stack() {
    let count: u32 = if std::env::var_os("DELTAWATCH_FULL").is_some() { 300_000 } else { 30_000 };
    let path = move || {
        let mut graph = graph(count);
        for vertex in (2..=count).step_by(2).chain((3..=count).step_by(2)) {
            graph.link(vertex, vertex - 1, vertex);
        }
        assert_eq!(graph.component(1).size, count);
        for round in 0..50 {
            let edge = count / 2 + round;
            assert!(graph.unlink(edge));
            assert_eq!(graph.component(1).size, edge - 1);
            assert!(graph.link(edge, edge - 1, edge));
        }
        for vertex in (2..=count).rev() {
            assert!(graph.unlink(vertex));
        }
        assert_eq!(graph.components(), count as usize);
    };
    let thread = std::thread::Builder::new().stack_size(64 << 10).spawn(path).expect("a thread starts");
    thread.join().expect("64 KiB of stack are enough");
}

/// Vertices lose all edges at once and get them back, in components of every size: hubs between giants, hubs of leaves.
#[test]
fn all_edges_of_a_vertex_go_and_come_at_once() {
    for (seed, vertices, density) in [(1, 60, 0.7), (2, 400, 0.6), (3, 400, 1.3), (4, 3_000, 0.9)] {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut graph, mut edges) = (graph(vertices), BTreeMap::new());
        let hubs = vertices / 40;
        for edge in 1..=(f64::from(vertices) * density) as u32 {
            let a =
                if random.random_bool(0.4) { random.random_range(1..=hubs) } else { random.random_range(1..=vertices) };
            let b = random.random_range(1..=vertices);
            if a != b {
                graph.link(edge, a, b);
                edges.insert(edge, (a, b));
            }
        }
        for round in 0..150 {
            let vertex = if round % 3 == 0 { random.random_range(1..=vertices) } else { random.random_range(1..=hubs) };
            let own = |&(a, b): &(u32, u32)| a == vertex || b == vertex;
            let gone: BTreeMap<u32, (u32, u32)> =
                edges.iter().filter(|(_, ends)| own(ends)).map(|(&edge, &ends)| (edge, ends)).collect();
            edges.retain(|_, ends| !own(ends));
            graph.isolate(vertex);
            if round % 7 == 0 || vertices < 100 {
                check(&mut graph, vertices, &edges);
            }
            let back: Vec<(u32, u32)> =
                gone.iter().map(|(&edge, &(a, b))| (edge, if a == vertex { b } else { a })).collect();
            graph.link_all(vertex, &back);
            edges.extend(gone);
            if round % 7 == 1 || vertices < 100 {
                check(&mut graph, vertices, &edges);
            }
        }
        check(&mut graph, vertices, &edges);
        (1..=vertices).for_each(|vertex| graph.isolate(vertex));
        assert_eq!((graph.components(), graph.nodes()), (vertices as usize, 0));
    }
}
