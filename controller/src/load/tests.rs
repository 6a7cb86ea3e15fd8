use super::*;
use std::fs;
use tempfile::TempDir;

const GOOD: &str = "\
apiVersion: diolkos.io/v1alpha1
kind: Route
metadata: {name: web, namespace: shop}
spec:
  rules:
  - directResponse: {status: 200}
";

fn loader(dir: &TempDir) -> Loader {
    let environment = |name: &str| (name == "TOKEN").then(|| "secret".to_owned());
    Loader::with_environment(vec![dir.path().to_owned()], environment)
}

fn write(dir: &TempDir, name: &str, text: &str) {
    let path = dir.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Without the directory, which differs from run to run.
fn lines(dir: &TempDir, problems: &[LoadProblem]) -> Vec<String> {
    let root = format!("{}/", dir.path().display());
    problems
        .iter()
        .map(|p| p.to_string().replace(&root, ""))
        .collect()
}

fn keys(loaded: &Loaded) -> Vec<String> {
    loaded.objects.iter().map(|o| o.id.key()).collect()
}

#[test]
fn reads_all_forms_and_skips_what_is_hidden() {
    let dir = TempDir::new().unwrap();
    write(
        &dir,
        "a.yaml",
        &format!(
            "# first\n---\n{GOOD}---\n{}",
            GOOD.replace("name: web", "name: two")
        ),
    );
    write(
        &dir,
        "deep/down/b.json",
        &json(
            &GOOD
                .replace("web", "three")
                .replace(", namespace: shop", ""),
        ),
    );
    let items = GOOD
        .replace("name: web", "name: listed")
        .replace('\n', "\n  ");
    write(
        &dir,
        "c.yml",
        &format!("apiVersion: v1\nkind: List\nitems:\n- {items}\n"),
    );
    write(&dir, ".hidden.yaml", GOOD);
    write(&dir, "..data/x.yaml", GOOD);
    write(&dir, "readme.md", "not: [yaml");
    write(
        &dir,
        "foreign.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: y}\n",
    );
    write(
        &dir,
        "test.yaml",
        "apiVersion: diolkos.io/v1alpha1\nkind: RouteTest\nmetadata: {name: t}\ntests: []\n",
    );
    let loaded = loader(&dir).load();
    assert_eq!(loaded.problems, []);
    assert_eq!(
        keys(&loaded),
        [
            "Route/shop/web",
            "Route/shop/two",
            "Route/shop/listed",
            "Route/default/three"
        ]
    );
    assert_eq!(loaded.notes.len(), 1, "{:?}", loaded.notes);
    assert!(loaded.notes[0].contains("foreign.yaml:1: Deployment (apps/v1)"));
}

fn json(yaml: &str) -> String {
    let value: serde_json::Value = serde_saphyr::from_str(yaml).unwrap();
    value.to_string()
}

#[test]
fn admission_names_every_fault_with_its_line() {
    let dir = TempDir::new().unwrap();
    let bad = "\
apiVersion: diolkos.io/v1alpha1
kind: Route
metadata: {name: web, namespace: shop}
spec:
  hostnames:
  - a.example.com
  - NOT A HOST
  rules:
  - backends: [{name: x, port: 80}]
    redirect: {hostname: b.example.com}
  - directResponse: {status: 200}
    limts: []
";
    write(
        &dir,
        "a.yaml",
        &format!(
            "# comment\n{bad}---\n{}",
            GOOD.replace("name: web", "name: fine")
        ),
    );
    let loaded = loader(&dir).load();
    let lines = lines(&dir, &loaded.problems);
    let starts = |start: &str| lines.iter().any(|l| l.starts_with(start));
    assert!(
        starts("a.yaml:8 Route shop/web spec.hostnames[1]: "),
        "{lines:#?}"
    );
    assert!(
        starts("a.yaml:10 Route shop/web spec.rules[0]: "),
        "{lines:#?}"
    );
    assert!(
        starts("a.yaml:13 Route shop/web spec.rules[1].limts: "),
        "{lines:#?}"
    );
    assert_eq!(keys(&loaded), ["Route/shop/web", "Route/shop/fine"]);
    let refused: Vec<bool> = loaded.objects.iter().map(Object::is_refused).collect();
    assert_eq!(refused, [true, false], "neighbours in the file proceed");
}

#[test]
fn a_broken_file_keeps_its_last_good_state() {
    let dir = TempDir::new().unwrap();
    write(&dir, "a.yaml", GOOD);
    write(
        &dir,
        "b.yaml",
        &GOOD.replace("name: web", "name: neighbour"),
    );
    let mut loader = loader(&dir);
    assert_eq!(loader.load().objects.len(), 2);
    for (text, line) in [
        ("kind: Route\nspec: [\n", "a.yaml:"),
        ("", "a.yaml:1: is empty"),
    ] {
        write(&dir, "a.yaml", text);
        let loaded = loader.load();
        assert_eq!(keys(&loaded), ["Route/shop/web", "Route/shop/neighbour"]);
        let lines = lines(&dir, &loaded.problems);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with(line) && lines[0].contains("serves on"),
            "{lines:?}"
        );
    }
    fs::write(dir.path().join("a.yaml"), b"a: \xff").unwrap();
    let loaded = loader.load();
    assert!(loaded.problems[0].message.starts_with("is not UTF-8"));
    assert_eq!(loaded.objects.len(), 2);
    write(&dir, "a.yaml", GOOD);
    assert_eq!(loader.load().problems, [], "as it was");
    fs::remove_file(dir.path().join("a.yaml")).unwrap();
    assert_eq!(keys(&loader.load()), ["Route/shop/neighbour"]);
}

#[test]
fn of_two_objects_of_one_name_the_first_serves() {
    let dir = TempDir::new().unwrap();
    write(&dir, "a.yaml", GOOD);
    write(&dir, "b.yaml", &format!("\n\n{GOOD}"));
    let loaded = loader(&dir).load();
    assert_eq!(loaded.objects.len(), 1);
    let lines = lines(&dir, &loaded.problems);
    assert!(
        lines[0].starts_with("b.yaml:3 Route shop/web: is also in "),
        "{lines:?}"
    );
}

#[test]
fn variables_stand_in_secrets_alone_and_must_be_set() {
    let dir = TempDir::new().unwrap();
    let secret = |name: &str, value: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData:\n  key: '{value}'\n---\n"
        )
    };
    write(
        &dir,
        "a.yaml",
        &[
            secret("set", "${TOKEN}"),
            secret("plain", "secret"),
            secret("unset", "${NOPE}"),
        ]
        .concat(),
    );
    write(
        &dir,
        "b.yaml",
        &GOOD.replace("status: 200", "status: 200, body: '${NOPE}'"),
    );
    let loaded = loader(&dir).load();
    let lines = lines(&dir, &loaded.problems);
    assert_eq!(
        lines,
        ["a.yaml:17 Secret default/unset stringData.key: the environment variable NOPE is not set"]
    );
    let value = |name: &str| {
        let object = loaded.objects.iter().find(|o| &*o.id.name == name).unwrap();
        match object.values() {
            Some(crate::world::Values::Read(data)) => data.get("key").cloned(),
            _ => None,
        }
    };
    assert_eq!(value("set"), value("plain"));
    assert!(value("set").is_some() && value("unset").is_none());
}

#[test]
fn what_is_no_object_is_said() {
    let dir = TempDir::new().unwrap();
    write(
        &dir,
        "a.yaml",
        "just: text\n---\napiVersion: diolkos.io/v1alpha1\nkind: Rout\nmetadata: {name: x}\n---\napiVersion: diolkos.io/v1beta9\nkind: Route\nmetadata: {name: x}\nspec: {rules: []}\n",
    );
    write(
        &dir,
        "b.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec:\n  ports: 80\n",
    );
    let lines = lines(&dir, &loader(&dir).load().problems);
    let starts = [
        "a.yaml:1: it is not an object",
        "a.yaml:4 kind: Rout is no kind of diolkos.io",
        "a.yaml:7 Route default/x apiVersion: must be diolkos.io/v1alpha1",
        "b.yaml:5 Service default/s spec.ports: ",
    ];
    assert_eq!(lines.len(), starts.len(), "{lines:#?}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn problems_of_translation_find_their_line() {
    let dir = TempDir::new().unwrap();
    write(
        &dir,
        "a.yaml",
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: diolkos.io/v1alpha1\n  kind: Route\n  metadata: {name: web}\n  spec:\n    rules:\n    - backends:\n      - {name: x, port: 80}\n      - name: nobody\n        port: 80\n",
    );
    let checked = crate::standalone::check(&[dir.path().to_owned()]);
    let lines = lines(&dir, &checked.problems);
    assert_eq!(
        lines,
        [
            "a.yaml:10 Route default/web spec.rules[0].backends[0]: Service default/x is not found",
            "a.yaml:11 Route default/web spec.rules[0].backends[1]: Service default/nobody is not found",
        ]
    );
    assert!(!checked.is_good());
}

#[test]
fn absurd_input_is_refused_and_nothing_falls_over() {
    let dir = TempDir::new().unwrap();
    write(&dir, "deep.yaml", &"[".repeat(5000));
    let bomb: String = (1..20)
        .map(|i| format!("a{i}: &a{i} [*a{0}, *a{0}, *a{0}, *a{0}]\n", i - 1))
        .collect();
    write(&dir, "bomb.yaml", &format!("a0: &a0 [x]\n{bomb}"));
    write(&dir, "good.yaml", GOOD);
    let large = fs::File::create(dir.path().join("large.yaml")).unwrap();
    large.set_len(MAX_FILE_BYTES + 1).unwrap();
    let loaded = loader(&dir).load();
    assert_eq!(keys(&loaded), ["Route/shop/web"]);
    assert_eq!(loaded.problems.len(), 3, "{:#?}", loaded.problems);
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_circles_are_not() {
    use std::os::unix::fs::symlink;
    let dir = TempDir::new().unwrap();
    write(&dir, "..2026/a.yaml", GOOD);
    symlink("..2026", dir.path().join("..data")).unwrap();
    symlink("..data/a.yaml", dir.path().join("a.yaml")).unwrap();
    symlink(".", dir.path().join("loop")).unwrap();
    let mut loader = loader(&dir);
    let loaded = loader.load();
    assert_eq!(keys(&loaded), ["Route/shop/web"]);
    assert!(
        loaded
            .problems
            .iter()
            .any(|p| p.message.contains("links back"))
    );
    // The swap of a mounted ConfigMap.
    write(
        &dir,
        "..2027/a.yaml",
        &GOOD.replace("name: web", "name: swapped"),
    );
    symlink("..2027", dir.path().join("..tmp")).unwrap();
    fs::rename(dir.path().join("..tmp"), dir.path().join("..data")).unwrap();
    assert_eq!(keys(&loader.load()), ["Route/shop/swapped"]);
}

#[test]
fn a_missing_directory_is_a_problem() {
    let dir = TempDir::new().unwrap();
    let loaded = Loader::new(vec![dir.path().join("nowhere")]).load();
    assert_eq!(lines(&dir, &loaded.problems).len(), 1);
    assert!(loaded.objects.is_empty());
}

#[test]
fn what_is_written_during_a_reading_is_seen_whole_or_not_at_all() {
    let dir = TempDir::new().unwrap();
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {key: '${TOKEN}'}\n";
    write(&dir, "b.yaml", secret);
    write(&dir, "c.yaml", &GOOD.replace("web", "old"));
    let path = dir.path().to_owned();
    // The directory has been listed and `c.yaml` has not been read when somebody writes first `a.yaml`, then `c.yaml`.
    let environment = move |_: &str| {
        fs::write(path.join("a.yaml"), GOOD.replace("web", "first")).unwrap();
        fs::write(path.join("c.yaml"), GOOD.replace("web", "second")).unwrap();
        Some(String::new())
    };
    let mut loader = Loader::with_environment(vec![dir.path().to_owned()], environment);
    let loaded = loader.load();
    let routes: Vec<String> = keys(&loaded)
        .into_iter()
        .filter(|key| key.starts_with("Route/"))
        .collect();
    assert_eq!(routes, ["Route/shop/first", "Route/shop/second"]);
}

#[test]
fn names_with_dots_are_found_in_brackets() {
    let dir = TempDir::new().unwrap();
    let text = "\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
  annotations:
    example.com/a: x
    nginx.ingress.kubernetes.io/rewrite-target: /
spec:
  rules:
  - http:
      paths:
      - path: /a
      - path: /b
";
    write(&dir, "web.yaml", text);
    let mut loader = loader(&dir);
    let loaded = loader.load();
    let id = &loaded.objects[0].id;
    for (field, line) in [
        (
            "metadata.annotations[nginx.ingress.kubernetes.io/rewrite-target]",
            7,
        ),
        (
            "metadata.annotations[nginx.ingress.kubernetes.io/absent]",
            5,
        ),
        ("spec.rules[0].http.paths[1].path", 13),
        ("spec.rules[7].http", 9),
        ("spec.rules[0", 9),
        ("", 1),
    ] {
        assert_eq!(
            loader.locate(id, field).map(|(_, line)| line),
            Some(line),
            "{field}"
        );
    }
}
