use super::*;
use tempfile::TempDir;

/// A configuration in a folder without plugins.
struct Case {
    dir: TempDir,
    plugins: PluginFolder,
}

const GOOD: &str = "version: 1\nagent: {interval: 5s}\n";

impl Case {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("plugins");
        fs::create_dir(&folder).unwrap();
        let plugins = PluginFolder::open(vec![folder], vec![]).unwrap();
        let case = Self { dir, plugins };
        case.write(text);
        case
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("sentinel.yaml")
    }

    fn write(&self, text: &str) {
        fs::write(self.file(), text).unwrap();
    }

    fn read(&self) -> Result<Loaded> {
        Loaded::read(&self.file(), Part::Whole, &self.plugins)
    }

    /// One look; a new configuration takes effect.
    fn look(&self, loaded: &mut Loaded) -> Look {
        match loaded.again(Part::Whole, &self.plugins) {
            None => Look::Nothing,
            Some(Ok(fresh)) => {
                *loaded = fresh;
                Look::New(loaded.config.agent.interval)
            }
            Some(Err(error)) => Look::Refused(format!("{error:#}")),
        }
    }
}

#[derive(Debug, PartialEq)]
enum Look {
    Nothing,
    New(Millis),
    Refused(String),
}

#[test]
fn the_default_configuration_has_the_right_shape() {
    let document = Document::parse("default.yaml", DEFAULT).unwrap();
    let config: ConfigFile = document.read().unwrap();
    assert_eq!(config.agent.collectors.len(), 1);
    assert_eq!(config.worker.evaluators.len(), 1);
}

#[test]
fn a_changed_file_is_read_once_when_it_has_stopped_changing() {
    let case = Case::new(GOOD);
    let mut loaded = case.read().unwrap();
    for _ in 0..3 {
        assert_eq!(case.look(&mut loaded), Look::Nothing);
    }
    case.write("version: 1\nagent: {interval: 30s}\n");
    assert_eq!(case.look(&mut loaded), Look::Nothing, "it may still be written");
    assert_eq!(case.look(&mut loaded), Look::New(Millis(30_000)));
    assert_eq!(case.look(&mut loaded), Look::Nothing);
}

#[test]
fn a_file_that_is_being_written_is_never_half_in_force() {
    // Each prefix of the text is a valid document, or none: neither is applied or refused while
    // the writer is at it, however long it takes.
    let case = Case::new(GOOD);
    let mut loaded = case.read().unwrap();
    let whole = "version: 1\nhosts: [a.example:1, b.example:2]\nagent: {interval: 30s}\n";
    for end in 0..whole.len() {
        case.write(&whole[..end]);
        assert_eq!(case.look(&mut loaded), Look::Nothing, "{:?}", &whole[..end]);
    }
    case.write(whole);
    assert_eq!(case.look(&mut loaded), Look::Nothing);
    assert_eq!(case.look(&mut loaded), Look::New(Millis(30_000)));
}

#[test]
fn a_refused_change_is_said_once_and_what_mends_it_is_applied() {
    let case = Case::new(GOOD);
    let mut loaded = case.read().unwrap();
    case.write("version: 1\nagent: {interval: 1ms}\n");
    assert_eq!(case.look(&mut loaded), Look::Nothing);
    assert!(matches!(case.look(&mut loaded), Look::Refused(why) if why.contains("interval")));
    assert_eq!(loaded.config.agent.interval, Millis(5000));
    for _ in 0..3 {
        assert_eq!(case.look(&mut loaded), Look::Nothing);
    }
    fs::remove_file(case.file()).unwrap();
    case.look(&mut loaded);
    assert!(matches!(case.look(&mut loaded), Look::Refused(why) if why.contains("cannot be read")));
    case.write("version: 1\nagent: {interval: 30s}\n");
    case.look(&mut loaded);
    assert_eq!(case.look(&mut loaded), Look::New(Millis(30_000)));
}

#[test]
fn a_file_written_in_the_moment_it_was_read_is_noticed_though_it_looks_the_same() {
    let case = Case::new(GOOD);
    let mut loaded = case.read().unwrap();
    // Same file, same length, same time.
    let at = fs::metadata(case.file()).unwrap().modified().unwrap();
    case.write(&GOOD.replace("5s", "9s"));
    fs::File::options().write(true).open(case.file()).unwrap().set_modified(at).unwrap();
    assert_eq!(case.look(&mut loaded), Look::New(Millis(9000)));
}

#[test]
fn a_plugin_that_cannot_be_loaded_is_a_warning_at_the_start_and_refuses_a_change() {
    let with = |interval: &str, plugin: &str| {
        format!(
            "version: 1\nagent:\n  interval: {interval}\n  collectors: [{{slot: s, plugin: {plugin}}}]\n"
        )
    };
    let case = Case::new(&with("5s", "sentinel/nowhere"));
    let mut loaded = case.read().unwrap();
    assert_eq!(loaded.config.agent.collectors.len(), 1);
    // The same slot as before does not keep other changes out.
    case.write(&with("30s", "sentinel/nowhere"));
    case.look(&mut loaded);
    assert_eq!(case.look(&mut loaded), Look::New(Millis(30_000)));
    case.write(&with("60s", "sentinel/elsewhere"));
    case.look(&mut loaded);
    let Look::Refused(why) = case.look(&mut loaded) else { panic!("it was taken") };
    assert!(why.contains("/agent/collectors/0/plugin") && why.contains("elsewhere"), "{why}");
    assert_eq!(loaded.config.agent.interval, Millis(30_000));
    // Tried again when a plugin changes.
    fs::write(case.dir.path().join("plugins/new.wasm"), "1").unwrap();
    case.look(&mut loaded);
    assert!(matches!(case.look(&mut loaded), Look::Refused(_)));
}

#[test]
fn where_something_else_is_wrong_everything_is_said_at_once() {
    let case = Case::new(
        "version: 1\nagent: {interval: 1ms, collectors: [{slot: s, plugin: sentinel/nowhere}]}\n",
    );
    let why = format!("{:#}", case.read().unwrap_err());
    assert!(why.contains("/agent/interval") && why.contains("/agent/collectors/0/plugin"), "{why}");
    let case = Case::new("version: 1\nagent: {collectors: [{slot: s, plugin: Not A Name}]}\n");
    assert!(case.read().is_err(), "what is no name at all is no plugin to wait for");
}
