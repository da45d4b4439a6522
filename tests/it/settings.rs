//! Where settings come from: flags, the environment, a `.env` file, in this order.

use crate::harness::{IN, Kafka, Longshore, plain};

/// A broker with a message in `orders`, and two topics for answers.
fn kafka() -> Kafka {
    let kafka = Kafka::start(1);
    kafka.create_topic("elsewhere", 1).unwrap();
    kafka.put(0, plain(1));
    kafka
}

#[test]
fn flags_alone_are_enough() {
    let kafka = kafka();
    let address = kafka.address();
    let end = Longshore::new(&format!(
        "run -b {address} -g workers -t orders --reply-topic elsewhere --task sleep --task-time 1ms --workers 2 \
         --max-in-flight 64 --max-in-flight-bytes 1MiB --format utf8 --from earliest --assign all --offsets kafka \
         --commit-interval 250ms --grace 2s --until-end --startup-timeout 5s --reader wire --isolation read_committed --log-level warn --log-format text \
         --summary json --fail-on-failure"
    ))
    .end()
    .exits(0)
    .counts("received 1, replied 1");
    assert_eq!(end.log, "");
    assert_eq!((kafka.count("elsewhere"), kafka.kept(0)), (1, Some(1)));
}

#[test]
fn the_environment_alone_is_enough() {
    let kafka = kafka();
    Longshore::new("run")
        .env("LONGSHORE_BROKERS", &kafka.address())
        .env("LONGSHORE_GROUP", "workers")
        .env("LONGSHORE_TOPIC", IN)
        .env("LONGSHORE_REPLY_TOPIC", "elsewhere")
        .env("LONGSHORE_TASK_TIME", "1ms")
        .env("LONGSHORE_UNTIL_END", "true")
        .env("LONGSHORE_SUMMARY", "json")
        .env("LONGSHORE_LOG_LEVEL", "error")
        .end()
        .exits(0)
        .counts("received 1");
    assert_eq!((kafka.count("elsewhere"), kafka.kept(0)), (1, Some(1)));
}

#[test]
fn the_old_services_environment_goes_on_to_work() {
    let kafka = kafka();
    kafka.put(0, ["{oops"]);
    Longshore::new("run --until-end --task-time 0")
        .env("KAFKA_SERVER", &kafka.address())
        .env("KAFKA_CONSUMER_GROUP", "workers")
        .env("KAFKA_TOPIC_NAME", IN)
        .env("KAFKA_DEAD_LETTER_TOPIC", "dead")
        .env("RUST_LOG", "warn")
        .end()
        .exits(0);
    assert_eq!(kafka.count("Scenario-Execute-Response"), 2, "the default reply topic is the old service's");
    assert_eq!((kafka.count("dead"), kafka.kept(0)), (1, Some(2)));
}

#[test]
fn a_dot_env_in_the_working_directory_is_read() {
    let kafka = kafka();
    let dot_env = format!(
        "# for trials\nKAFKA_SERVER={}\nKAFKA_CONSUMER_GROUP=workers\nKAFKA_TOPIC_NAME=\"orders\"\n\
         LONGSHORE_TASK_TIME=0\nLONGSHORE_REPLY_TOPIC=elsewhere\n",
        kafka.address()
    );
    Longshore::new("run --until-end").file(".env", &dot_env).end().exits(0);
    assert_eq!((kafka.count("elsewhere"), kafka.kept(0)), (1, Some(1)));
}

#[test]
fn another_file_is_read_in_the_place_of_dot_env() {
    let kafka = kafka();
    let named = kafka.longshore("--until-end --env-file trial.env").no_env("KAFKA_REPLY_TOPIC");
    named.file("trial.env", "KAFKA_REPLY_TOPIC=elsewhere").file(".env", "LONGSHORE_WORKERS=none").end().exits(0);
    assert_eq!(kafka.count("elsewhere"), 1);
}

#[test]
fn a_file_that_is_named_has_to_be_there() {
    let kafka = kafka();
    kafka.longshore("--until-end --env-file missing.env").end().exits(64).says("--env-file missing.env");
    kafka.longshore("--until-end").env("LONGSHORE_ENV_FILE", "missing.env").end().exits(64).says("missing.env");
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file() {
    let replies = |flags: &str, env: Option<&str>, file: &str| {
        let kafka = kafka();
        for topic in ["flag", "env", "file"] {
            kafka.create_topic(topic, 1).unwrap();
        }
        let mut longshore = kafka.longshore(&format!("--until-end {flags}")).no_env("KAFKA_REPLY_TOPIC");
        if let Some(topic) = env {
            longshore = longshore.env("LONGSHORE_REPLY_TOPIC", topic);
        }
        longshore.file(".env", file).end().exits(0);
        let answered: Vec<_> =
            kafka.topics().into_iter().filter(|topic| topic != IN && kafka.count(topic) > 0).collect();
        answered.join(", ")
    };
    let file = "LONGSHORE_REPLY_TOPIC=file";
    assert_eq!(replies("--reply-topic flag", Some("env"), file), "flag");
    assert_eq!(replies("", Some("env"), file), "env");
    assert_eq!(replies("", Some("env"), ""), "env");
    assert_eq!(replies("", None, file), "file");
    assert_eq!(replies("", Some(""), file), "file", "an empty variable is none");
    assert_eq!(replies("", None, ""), "Scenario-Execute-Response");
    assert_eq!(replies("--no-reply --on-failure drop", Some("env"), file), "");
}

#[test]
fn what_is_wrong_in_the_environment_is_named_as_it_is_there() {
    let kafka = kafka();
    kafka
        .longshore("")
        .env("LONGSHORE_WORKERS", "0")
        .env("LONGSHORE_COMMIT_INTERVAL", "often")
        .file(".env", "LONGSHORE_FORMAT=xml\n")
        .end()
        .exits(64)
        .says("LONGSHORE_COMMIT_INTERVAL 'often'")
        .says("LONGSHORE_FORMAT 'xml': none of json, utf8, bytes")
        .says("--workers must be 1 to 10000, not 0");
}
