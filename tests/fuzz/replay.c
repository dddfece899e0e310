/*
 * replay.c - runs a harness over files, without clang and libFuzzer: TAP on stdout.
 *
 *   replay_NAME             every file of tests/fuzz/corpus/NAME ($top_srcdir)
 *   replay_NAME FILE...     these
 *
 * Each input, and a few mutants of it which are the same every time, run in a child of their own, all in
 * one as long as nothing goes wrong: so the input that a crash came from can be named.
 */
#include "fuzz.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/own.h"

#define INPUT_MAX (1 << 20)
/* Of each input; fewer where there are many inputs, so that make check stays quick. */
#define MUTANTS  12U
#define RUNS_MAX 400U
/* Of CPU time, for all inputs: what does not end is ended. */
#define CPU_SECONDS 300

/* Where the child is. */
struct progress {
	int at;          /* the file */
	unsigned mutant; /* 0: as it is */
	unsigned runs;
};

static struct progress *progress;
static unsigned mutants;

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Copies a piece of the input to another place of it, drops one, or changes a byte. Returns the length,
 * which is at most twice what it was, and one. */
static size_t mutate(uint8_t *data, size_t size, uint64_t *random)
{
	static const char odd[] =
	        "\0\n\r\t ;#%[]=:.,/-_0123456789aAfFxX\\\"'\x7f\x80\xc3\xff";
	size_t at = next_random(random) % (size + 1);
	size_t len = next_random(random) % (size - at + 1);

	switch (next_random(random) % 4) {
	case 0:
		memmove(data + at, data + at + len, size - at - len);
		return size - len;
	case 1:
		memmove(data + at + len, data + at, size - at);
		return size + len;
	case 2:
		memmove(data + at + 1, data + at, size - at);
		data[at] = (uint8_t)odd[next_random(random) % (sizeof(odd) - 1)];
		return size + 1;
	default:
		if (at < size)
			data[at] = (uint8_t)odd[next_random(random) % (sizeof(odd) - 1)];
		return size;
	}
}

/* From memory of its own size, so that AddressSanitizer sees what reads beyond it. */
static void run_copy(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size > 0 ? size : 1);

	if (!copy)
		_exit(1);
	if (size > 0)
		memcpy(copy, data, size);
	progress->runs++;
	(void)LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

static void run_input(const uint8_t *data, size_t size)
{
	uint64_t random = UINT64_C(0x9e3779b97f4a7c15) ^ size;
	uint8_t *mutant = malloc(4 * size + 4);

	if (!mutant)
		_exit(1);
	for (size_t i = 0; i < size; i++)
		random = (random ^ data[i]) * UINT64_C(0x100000001b3);
	random |= 1;
	progress->mutant = 0;
	run_copy(data, size);
	for (progress->mutant = 1; progress->mutant <= mutants; progress->mutant++) {
		if (size > 0)
			memcpy(mutant, data, size);
		size_t len = mutate(mutant, size, &random);

		if (progress->mutant % 2 == 0)
			len = mutate(mutant, len, &random);
		run_copy(mutant, len);
	}
	free(mutant);
}

static void run_file(const char *path)
{
	OWN_MEM uint8_t *data = malloc(INPUT_MAX);
	FILE *f = fopen(path, "re");
	size_t size = data && f ? fread(data, 1, INPUT_MAX, f) : 0;

	if (!data || !f || ferror(f)) {
		(void)fprintf(stderr, "%s: %m\n", path);
		_exit(1);
	}
	(void)fclose(f);
	run_input(data, size);
}

/* Runs the files from `from` to `to` - 1 in a child. Returns how it ended, as wait(2). */
static int run_child(char *const *paths, int from, int to)
{
	const struct rlimit cpu = {CPU_SECONDS, CPU_SECONDS};
	int status = -1;

	(void)fflush(stdout);
	pid_t pid = fork();

	if (pid == 0) {
		(void)setrlimit(RLIMIT_CPU, &cpu);
		for (progress->at = from; progress->at < to; progress->at++)
			run_file(paths[progress->at]);
		exit(0); /* with a look for leaks, where there is one */
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

static void tell_failure(const char *path, int status)
{
	(void)printf("# %s, ", path);
	if (progress->mutant > 0)
		(void)printf("mutant %u: ", progress->mutant);
	if (WIFSIGNALED(status))
		(void)printf("%s\n", strsignal(WTERMSIG(status)));
	else
		(void)printf("exit status %d\n", WEXITSTATUS(status));
}

/* All of them. Returns how many failed. */
static int run_all(char *const *paths, int n)
{
	int failed = 0;

	for (int i = 0; i < n;) {
		int status = run_child(paths, i, n);

		if (status == 0)
			break;
		if (progress->at < n) {
			tell_failure(paths[progress->at], status);
			i = progress->at + 1;
			failed++;
			continue;
		}
		/* At the end: one of them leaks. */
		for (; i < n; i++)
			if (run_child(paths, i, i + 1) != 0) {
				tell_failure(paths[i], status);
				failed++;
			}
		failed += failed == 0;
	}
	return failed;
}

static int is_input(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* The files of a folder. Returns their number. */
static int list_files(const char *folder, char ***ret)
{
	struct dirent **entries = NULL;
	int n = scandir(folder, &entries, is_input, alphasort);

	*ret = calloc((size_t)(n > 0 ? n : 0) + 1, sizeof(char *));
	for (int i = 0; i < n; i++) {
		if (!*ret ||
		        asprintf(&(*ret)[i], "%s/%s", folder, entries[i]->d_name) < 0)
			exit(1);
		free(entries[i]);
	}
	free(entries);
	return n;
}

int main(int argc, char **argv)
{
	const char *top = getenv("top_srcdir"), *slash = strrchr(argv[0], '/');
	const char *program = slash ? slash + 1 : argv[0], *name = strchr(program, '_');
	char folder[4096], **paths = argv + 1;
	int n = argc - 1;

	/* Harnesses know which descriptors are free. */
	(void)close_range(3, ~0U, 0);
	name = name ? name + 1 : program;
	(void)snprintf(
	        folder, sizeof(folder), "%s/tests/fuzz/corpus/%s", top ? top : ".", name);
	if (n == 0)
		n = list_files(folder, &paths);
	progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE,
	        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (progress == MAP_FAILED || n <= 0) {
		(void)printf("1..0 # no input in %s\nBail out! no input\n", folder);
		return 1;
	}
	unsigned each = RUNS_MAX / (unsigned)n;
	mutants = each > MUTANTS ? MUTANTS : each > 0 ? each - 1 : 0;
	int failed = run_all(paths, n);
	(void)printf("%sok 1 - %s: %d inputs and their mutants, %u runs\n1..1\n",
	        failed ? "not " : "", name, n, progress->runs);
	for (int i = 0; paths != argv + 1 && i < n; i++)
		free(paths[i]);
	if (paths != argv + 1)
		free(paths);
	return failed != 0;
}
