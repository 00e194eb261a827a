/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Configuration and keys, read through an opener that knows one folder. No cluster is needed: librados says what it was told. */
#include "image_fixture.h"
#include "rbd.h"

#define KEY_A "AQBB9q1mAAAAABAAvT5zPZqkTZzZ5cT9oXsjVg=="
#define KEY_B "AQBC9q1mAAAAABAAvT5zPZqkTZzZ5cT9oXsjVg=="

static char folder[64];

static const char *write_file(const char *name, const char *text)
{
	static char path[128];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
	return path;
}

static int setup(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/lunkit-test-rbd-XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];
	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	return system(command);
}

/* Reads the configuration; result as rbd_configure()'s. */
static int configure(rados_t *cluster, const char *conf, const char *id, const char *keyring, struct lunkit_error *err)
{
	struct lunkit_host host = { .opener.open = fixture_open };
	const struct lunkit_option_value option = { "keyring", keyring, 0 };
	const struct lunkit_params params = { .host = &host, .name = "p/i", .options = &option, .option_count = keyring ? 1 : 0 };
	char entity[64];
	snprintf(entity, sizeof(entity), "client.%s", id);
	*err = LUNKIT_ERROR_INIT;
	assert_int_equal(rados_create2(cluster, "ceph", entity, 0), 0);
	return rbd_configure(&params, *cluster, conf, id, err);
}

static void assert_conf(rados_t cluster, const char *key, const char *expected)
{
	char value[256] = "";
	assert_int_equal(rados_conf_get(cluster, key, value, sizeof(value)), 0);
	assert_string_equal(value, expected);
}

static void sections_are_told_to_librados(void **state)
{
	(void)state;
	char text[2048];
	rados_t cluster;
	struct lunkit_error err;
	snprintf(text, sizeof(text),
		 "# a comment\n"
		 "[global]\n"
		 "mon host = 192.0.2.1 ; behind\n"
		 "rbd-default  features = 3\n"
		 "rbd default order = 20\n"
		 "log file = /nonexistent/log\n"
		 "no such option = 1\n"
		 "[client]\n"
		 "rbd_default_order = 21\n"
		 "keyring = %s/$name.keyring\n"
		 "[client.other]\n"
		 "rbd_default_order = 23\n"
		 "[client.me]\n"
		 "rbd default order = \\\n"
		 "   \"22\"\n"
		 "[osd]\n"
		 "rbd default order = 24\n",
		 folder);
	write_file("ceph.conf", text);
	write_file("client.me.keyring", "[client.admin]\n\tkey = " KEY_B "\n[client.me]\n\tkey = " KEY_A "\n\tcaps mon = \"allow *\"\n");
	char conf[128];
	snprintf(conf, sizeof(conf), "%s/ceph.conf", folder);
	assert_int_equal(configure(&cluster, conf, "me", NULL, &err), 0);
	assert_conf(cluster, "mon_host", "192.0.2.1");
	assert_conf(cluster, "rbd_default_order", "22");
	assert_conf(cluster, "rbd_default_features", "3");
	assert_conf(cluster, "key", KEY_A);
	assert_conf(cluster, "keyring", "");
	assert_conf(cluster, "log_file", "");
	rados_shutdown(cluster);
	assert_int_equal(configure(&cluster, conf, "other", NULL, &err), -ENOKEY);
	assert_non_null(strstr(err.message, "client.other.keyring"));
	rados_shutdown(cluster);
}

static void what_is_missing_is_named(void **state)
{
	(void)state;
	rados_t cluster;
	struct lunkit_error err;
	char conf[128], keys[128];
	snprintf(conf, sizeof(conf), "%s/ceph.conf", folder);
	assert_int_equal(configure(&cluster, conf, "me", NULL, &err), -ENOENT);
	assert_non_null(strstr(err.message, conf));
	rados_shutdown(cluster);

	write_file("ceph.conf", "[global]\nfsid = x\n");
	assert_int_equal(configure(&cluster, conf, "me", NULL, &err), -EINVAL);
	assert_non_null(strstr(err.message, "mon_host"));
	rados_shutdown(cluster);

	write_file("ceph.conf", "[global]\nmon_host = 192.0.2.1\n");
	snprintf(keys, sizeof(keys), "%s", write_file("keys", "[client.me]\nkey = not base64\n"));
	assert_int_equal(configure(&cluster, conf, "you", keys, &err), -ENOKEY);
	assert_non_null(strstr(err.message, "client.you"));
	assert_null(strstr(err.message, "base64")); /* what a key says is nobody's business */
	rados_shutdown(cluster);

	/* a cluster without keys needs none */
	write_file("ceph.conf", "[global]\nmon_host = 192.0.2.1\nauth client required = none\n");
	assert_int_equal(configure(&cluster, conf, "me", NULL, &err), 0);
	rados_shutdown(cluster);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(sections_are_told_to_librados, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_missing_is_named, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
