//! Import circles between files.
//!
//! A file imports another if it names an item that the other defines. Re-exports are followed to the definition; a re-export
//! of a descendant's item (`pub use child::Item` in the parent) is no import unless the parent also uses the item.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    syntax::{Mention, defines, mentions, names_in_bodies},
    tree::{Source, in_crate},
};

/// Edges `a → b` of import circles.
pub(crate) fn circles(sources: &[Source]) -> Vec<(String, String)> {
    let edges = imports(sources);
    let reach: Vec<BTreeSet<usize>> = (0..sources.len()).map(|file| reachable(file, &edges)).collect();
    let in_circle = edges.iter().enumerate().flat_map(|(from, targets)| {
        targets.iter().filter(|to| reach[**to].contains(&from)).map(|to| (from, *to)).collect::<Vec<_>>()
    });
    in_circle.map(|(from, to)| (sources[from].name.clone(), sources[to].name.clone())).collect()
}

/// The files that each file imports.
fn imports(sources: &[Source]) -> Vec<BTreeSet<usize>> {
    let files: Vec<File<'_>> = sources.iter().map(|source| File::new(source, sources)).collect();
    let tree = Tree { files: &files, modules: sources.iter().enumerate().map(|(k, s)| (&*s.module, k)).collect() };
    (0..files.len()).map(|file| tree.imports(file)).collect()
}

/// Files that `file` imports directly or indirectly.
fn reachable(file: usize, edges: &[BTreeSet<usize>]) -> BTreeSet<usize> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![file]);
    while let Some(file) = next.pop() {
        next.extend(edges[file].iter().copied().filter(|target| seen.insert(*target)));
    }
    seen
}

/// What one file imports, with paths from the crate's root.
struct File<'a> {
    source: &'a Source,
    mentions: Vec<Mention>,
    /// Names that `use` items bind.
    names: BTreeMap<String, Vec<String>>,
    /// Modules whose items a `use` item takes by `*`.
    globs: Vec<Vec<String>>,
    in_bodies: BTreeSet<String>,
}

impl<'a> File<'a> {
    fn new(source: &'a Source, all: &[Source]) -> Self {
        let (mut names, mut globs) = (BTreeMap::new(), Vec::new());
        let is_child = |name: &String| {
            all.iter()
                .any(|s| s.module.split_last().is_some_and(|(last, parent)| last == name && *parent == *source.module))
        };
        let mentions: Vec<Mention> = mentions(&source.code)
            .into_iter()
            .filter_map(|mention| {
                let known = names.get(&mention.path[0]).cloned();
                let path = in_crate(&source.module, &mention.path)
                    .or_else(|| known.map(|path: Vec<String>| [&path, &mention.path[1..]].concat()))
                    .or_else(|| is_child(&mention.path[0]).then(|| [&source.module, &*mention.path].concat()))?;
                match mention.binds.as_deref() {
                    Some("*") => globs.push(path.clone()),
                    Some(name) => drop(names.insert(name.to_owned(), path.clone())),
                    None => {}
                }
                Some(Mention { path, ..mention })
            })
            .collect();
        Self { source, mentions, names, globs, in_bodies: names_in_bodies(&source.code) }
    }
}

struct Tree<'a> {
    files: &'a [File<'a>],
    modules: BTreeMap<&'a [String], usize>,
}

impl Tree<'_> {
    fn imports(&self, file: usize) -> BTreeSet<usize> {
        let own = &self.files[file];
        let targets = own.mentions.iter().filter_map(|mention| {
            let target = match mention.binds.as_deref() {
                Some("*") => *self.modules.get(&*mention.path)?,
                binds => self.home(&mention.path, binds.is_some(), 0)?,
            };
            let unused = mention.binds.as_ref().is_some_and(|name| !own.in_bodies.contains(name));
            let descends = self.files[target].source.module.starts_with(&own.source.module);
            let re_export = mention.public && unused && descends;
            (target != file && !re_export).then_some(target)
        });
        targets.collect()
    }

    /// The file that defines the item at `path`; `None` for a module. `used`: `path` is that of a `use` item.
    fn home(&self, path: &[String], used: bool, depth: usize) -> Option<usize> {
        let inside = (0..=path.len()).rev().find(|n| self.modules.contains_key(&path[..*n]))?;
        let file = self.modules[&path[..inside]];
        let Some(name) = path.get(inside) else {
            // An item may have the name of a module: `pub use refuse::refuse`.
            let (last, parent) = path.split_last()?;
            let item = self.files[*self.modules.get(parent)?].names.get(last)?;
            return (used && item != path && depth < 8).then(|| self.home(item, used, depth + 1))?;
        };
        if depth == 8 {
            return Some(file);
        }
        if let Some(item) = self.files[file].names.get(name) {
            return self.home(&[item, &path[inside + 1..]].concat(), used, depth + 1).or(Some(file));
        }
        let globbed = self.files[file].globs.iter().find_map(|glob| {
            let home = self.home(&[&glob[..], std::slice::from_ref(name)].concat(), used, depth + 1)?;
            defines(&self.files[home].source.code, name).then_some(home)
        });
        globbed.or(Some(file))
    }
}
