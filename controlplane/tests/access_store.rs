//! Users, roles, sessions, tokens and the audit log as the store keeps them. The same promises on both
//! databases.

mod stand_ins;

use controlplane::store::{
    AuditLog, AuditRow, AuditSearch, Bounds, Db, Edited, RoleEdit, Roles, Session, Sessions, Token,
    Tokens, UserEdit, UserSearch, Users,
};
use stand_ins::{MORNING, postgres};

/// Every promise is a test on each database, with a database of its own.
macro_rules! on_both {
    ($($promise:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $promise() {
                let db = super::Db::in_memory().await.expect("a database in memory");
                super::$promise(db).await;
            })*
        }

        mod postgresql {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(super::postgres::db().await).await;
            })*
        }
    };
}

on_both! {
    the_first_user_comes_once,
    names_and_emails_belong_to_one_user,
    the_last_who_may_do_everything_stays,
    users_are_found_by_part_of_their_name,
    roles_carry_permissions_to_users,
    sessions_end_with_their_user_and_with_their_time,
    only_the_newest_sessions_of_a_user_stay,
    a_token_is_kept_as_it_was_and_revoked_once,
    the_audit_log_is_read_from_its_end,
}

fn edit(name: &str) -> UserEdit {
    UserEdit {
        username: name.to_owned(),
        email: Some(format!("{name}@example.net")),
        password_hash: Some("a hash".to_owned()),
        is_active: true,
        is_staff: false,
        is_superuser: false,
    }
}

async fn add(store: &Db, name: &str) -> i64 {
    store.add_user(&edit(name)).await.expect("stored").expect("not taken")
}

async fn the_first_user_comes_once(store: Db) {
    assert!(!store.has_users().await.expect("read"));
    assert!(store.add_first_user("admin", "a hash").await.expect("stored"));
    assert!(!store.add_first_user("second", "a hash").await.expect("stored"));
    assert!(store.has_users().await.expect("read"));
    let admin = store.login("admin").await.expect("read").expect("known");
    assert!(admin.user.is_superuser && admin.user.is_active);
    assert_eq!((admin.password_hash.as_str(), admin.user.email), ("a hash", None));
    assert!(store.login("second").await.expect("read").is_none());
    store.logged_in(admin.user.id, MORNING.0, "::1").await.expect("stored");
    let seen = store.user(admin.user.id).await.expect("read").expect("known");
    assert_eq!((seen.last_login_at, seen.last_login_ip.as_deref()), (Some(MORNING.0), Some("::1")));
}

async fn names_and_emails_belong_to_one_user(store: Db) {
    store.add_first_user("admin", "a hash").await.expect("stored");
    let (ada, bob) = (add(&store, "ada").await, add(&store, "bob").await);
    assert_eq!(store.add_user(&edit("ada")).await.expect("answered"), None);
    let same_email = UserEdit { username: "eve".to_owned(), ..edit("bob") };
    assert_eq!(store.add_user(&same_email).await.expect("answered"), None);
    assert_eq!(store.edit_user(ada, &edit("bob")).await.expect("answered"), Edited::Taken);
    let same_email = UserEdit { username: "ada".to_owned(), ..edit("bob") };
    assert_eq!(store.edit_user(ada, &same_email).await.expect("answered"), Edited::Taken);
    let renamed = UserEdit { password_hash: None, email: None, ..edit("ada2") };
    assert_eq!(store.edit_user(ada, &renamed).await.expect("stored"), Edited::Done);
    let kept = store.login("ada2").await.expect("read").expect("known");
    assert_eq!((kept.password_hash.as_str(), kept.user.email), ("a hash", None));
    assert_eq!(store.delete_user(bob).await.expect("stored"), Edited::Done);
    assert_eq!(store.delete_user(bob).await.expect("answered"), Edited::Unknown);
    assert_eq!(store.edit_user(bob, &edit("bob")).await.expect("answered"), Edited::Unknown);
    assert_eq!(store.user(bob).await.expect("read"), None);
}

async fn the_last_who_may_do_everything_stays(store: Db) {
    store.add_first_user("admin", "a hash").await.expect("stored");
    let admin = store.login("admin").await.expect("read").expect("known").user.id;
    let lesser = UserEdit { is_superuser: false, ..edit("admin") };
    let off = UserEdit { is_superuser: true, is_active: false, ..edit("admin") };
    for edit in [&lesser, &off] {
        assert_eq!(store.edit_user(admin, edit).await.expect("answered"), Edited::LastAdmin);
    }
    assert_eq!(store.delete_user(admin).await.expect("answered"), Edited::LastAdmin);
    let unchanged = store.user(admin).await.expect("read").expect("known");
    assert!(unchanged.is_superuser && unchanged.is_active && unchanged.email.is_none());
    let second = UserEdit { is_superuser: true, ..edit("second") };
    store.add_user(&second).await.expect("stored");
    assert_eq!(store.delete_user(admin).await.expect("stored"), Edited::Done);
}

async fn users_are_found_by_part_of_their_name(store: Db) {
    for name in ["carol", "ada", "bob"] {
        add(&store, name).await;
    }
    let off = UserEdit { is_active: false, ..edit("dora") };
    store.add_user(&off).await.expect("stored");
    let names = async |text: Option<&str>, active: Option<bool>, limit: u32, skip: u32| {
        let text = text.map(str::to_owned);
        let search = UserSearch { limit, skip, text, active };
        let (total, users) = store.users(&search).await.expect("read");
        let names: Vec<String> = users.into_iter().map(|user| user.username).collect();
        (total, names.join(" "))
    };
    assert_eq!(names(None, None, 10, 0).await, (4, "ada bob carol dora".to_owned()));
    assert_eq!(names(None, None, 2, 1).await, (4, "bob carol".to_owned()));
    assert_eq!(names(Some("o"), None, 10, 0).await, (3, "bob carol dora".to_owned()));
    assert_eq!(names(Some("bob@exa"), None, 10, 0).await, (1, "bob".to_owned()));
    assert_eq!(names(None, Some(false), 10, 0).await, (1, "dora".to_owned()));
    assert_eq!(names(Some("_' OR '1'='1"), None, 10, 0).await, (0, String::new()));
}

async fn roles_carry_permissions_to_users(store: Db) {
    let user = add(&store, "ada").await;
    let pair = |resource: &str, action: &str| (resource.to_owned(), action.to_owned());
    let role = RoleEdit {
        name: "listeners".to_owned(),
        description: None,
        permissions: vec![pair("cdr", "read"), pair("cdr", "read:recording")],
    };
    let id = store.add_role(&role).await.expect("stored").expect("not taken");
    assert_eq!(store.add_role(&role).await.expect("answered"), None);
    assert_eq!(store.set_roles(user, &[id, 5]).await.expect("stored"), Edited::Done);
    let mut permissions = store.permissions(user).await.expect("read");
    permissions.sort_unstable();
    assert!(permissions.contains(&pair("cdr", "read:recording")));
    assert!(permissions.contains(&pair("system", "read")), "of the viewer");
    let names: Vec<String> =
        store.roles_of(user).await.expect("read").into_iter().map(|role| role.name).collect();
    assert_eq!(names, ["listeners", "viewer"]);
    assert_eq!(store.set_roles(user, &[id, 99]).await.expect("answered"), Edited::Unknown);
    assert_eq!(store.set_roles(99, &[id]).await.expect("answered"), Edited::Unknown);
    assert_eq!(store.roles_of(user).await.expect("read").len(), 2, "nothing of it happened");
    let less = RoleEdit { permissions: Vec::new(), ..role.clone() };
    assert_eq!(store.edit_role(id, &less).await.expect("stored"), Edited::Done);
    assert!(!store.permissions(user).await.expect("read").contains(&pair("cdr", "read:recording")));
    assert_eq!(store.edit_role(1, &role).await.expect("answered"), Edited::Taken);
    let own_name = RoleEdit { name: "other".to_owned(), ..role };
    assert_eq!(store.edit_role(1, &own_name).await.expect("answered"), Edited::Unknown);
    assert_eq!(store.delete_role(1).await.expect("answered"), Edited::Unknown);
    assert_eq!(store.delete_role(id).await.expect("stored"), Edited::Done);
    assert_eq!(store.roles().await.expect("read").len(), 5);
    assert_eq!(store.roles_of(user).await.expect("read").len(), 1);
}

fn session(name: &str, user: i64, created_at: i64) -> Session {
    Session {
        id_hash: name.to_owned(),
        user,
        csrf_token: "x".to_owned(),
        source: "::1".to_owned(),
        user_agent: "curl".to_owned(),
        created_at,
        seen_at: created_at,
    }
}

async fn sessions_end_with_their_user_and_with_their_time(store: Db) {
    store.add_first_user("admin", "a hash").await.expect("stored");
    let user = add(&store, "ada").await;
    let never = Bounds { created_at: 0, seen_at: 0 };
    for (name, at) in [("a", 1_000), ("b", 2_000), ("c", 3_000)] {
        store.add_session(&session(name, user, at), 10, never).await.expect("stored");
    }
    let (found, of) = store.session("a").await.expect("read").expect("known");
    assert_eq!((found, of.username.as_str()), (session("a", user, 1_000), "ada"));
    store.seen("a", 9_000).await.expect("stored");
    store.seen("a", 8_000).await.expect("stored");
    assert_eq!(store.session("a").await.expect("read").expect("known").0.seen_at, 9_000);
    let bounds = Bounds { created_at: 0, seen_at: 2_500 };
    store.add_session(&session("d", user, 9_000), 10, bounds).await.expect("stored");
    let there = async |name: &str| store.session(name).await.expect("read").is_some();
    assert!(there("a").await && !there("b").await && there("c").await && there("d").await);
    store.end_session("c").await.expect("stored");
    assert!(!there("c").await);
    let off = UserEdit { is_active: false, ..edit("ada") };
    store.edit_user(user, &off).await.expect("stored");
    assert!(!there("a").await && !there("d").await);
    assert_eq!(store.session("' OR 1=1 --").await.expect("read"), None);
}

async fn only_the_newest_sessions_of_a_user_stay(store: Db) {
    let (ada, bob) = (add(&store, "ada").await, add(&store, "bob").await);
    let never = Bounds { created_at: 0, seen_at: 0 };
    store.add_session(&session("other", bob, 1), 3, never).await.expect("stored");
    for number in 1..=5 {
        let name = format!("s{number}");
        store.add_session(&session(&name, ada, number), 3, never).await.expect("stored");
    }
    let mut left = Vec::new();
    for name in ["other", "s1", "s2", "s3", "s4", "s5"] {
        if store.session(name).await.expect("read").is_some() {
            left.push(name);
        }
    }
    assert_eq!(left, ["other", "s3", "s4", "s5"]);
    store.end_sessions_of(ada).await.expect("stored");
    assert!(store.session("s5").await.expect("read").is_none());
    assert!(store.session("other").await.expect("read").is_some());
}

async fn a_token_is_kept_as_it_was_and_revoked_once(store: Db) {
    let mut token = Token {
        id: 0,
        public_id: "0123456789ab".to_owned(),
        name: "billing \u{1f4de}".to_owned(),
        token_hash: "hash".to_owned(),
        scopes: "ami cdr:read".to_owned(),
        networks: "10.0.0.0/8".to_owned(),
        created_by: "user admin".to_owned(),
        created_at: MORNING.0,
        expires_at: Some(MORNING.0 + 1_000),
        last_used_at: None,
        last_used_ip: None,
        revoked_at: None,
    };
    token.id = store.add_token(&token).await.expect("stored");
    assert_eq!(store.token("0123456789ab").await.expect("read").expect("known"), token);
    let twice = store.add_token(&token).await;
    assert!(twice.is_err(), "the public part is unique");
    let other = Token { public_id: "other".to_owned(), expires_at: None, ..token.clone() };
    store.add_token(&other).await.expect("stored");
    assert_eq!(store.valid_tokens(MORNING.0).await.expect("read"), 2);
    assert_eq!(store.valid_tokens(MORNING.0 + 1_000).await.expect("read"), 1);
    store.token_used(token.id, MORNING.0, "::1").await.expect("stored");
    assert!(store.revoke_token("other").await.expect("stored"));
    assert!(!store.revoke_token("other").await.expect("answered"));
    assert!(!store.revoke_token("nobody").await.expect("answered"));
    let (total, page) = store.tokens(1, 1).await.expect("read");
    assert_eq!((total, page.len()), (2, 1));
    assert_eq!(page[0].last_used_ip.as_deref(), Some("::1"));
    assert_eq!(store.valid_tokens(MORNING.0).await.expect("read"), 1);
}

async fn the_audit_log_is_read_from_its_end(store: Db) {
    for number in 0..5 {
        let row = AuditRow {
            id: 0,
            at: MORNING.0 + number,
            actor: if number % 2 == 0 { "user ada" } else { "user bob" }.to_owned(),
            source: "::1".to_owned(),
            action: "user.change".to_owned(),
            object: format!("user {number}"),
            outcome: "done".to_owned(),
            before: None,
            after: Some("{}".to_owned()),
            detail: None,
        };
        store.add_audit(&row).await.expect("stored");
    }
    let read = async |search: AuditSearch| {
        let rows = store.audit(&search).await.expect("read");
        rows.into_iter().map(|row| row.at - MORNING.0).collect::<Vec<_>>()
    };
    let all = AuditSearch { limit: 10, ..Default::default() };
    assert_eq!(read(all.clone()).await, [4, 3, 2, 1, 0]);
    assert_eq!(read(AuditSearch { limit: 2, below: Some(4), ..all.clone() }).await, [2, 1]);
    let ada = AuditSearch { actor: Some("user ada".to_owned()), ..all.clone() };
    assert_eq!(read(ada).await, [4, 2, 0]);
    let one = AuditSearch { object: Some("user 3".to_owned()), ..all.clone() };
    assert_eq!(read(one).await, [3]);
    let none = AuditSearch { action: Some("' OR ''='".to_owned()), ..all.clone() };
    assert!(read(none).await.is_empty());
    let (from, until) = (Some(MORNING.0 + 1), Some(MORNING.0 + 3));
    assert_eq!(read(AuditSearch { from, until, ..all }).await, [2, 1]);
}
