/*
 * test_list.c - src/base's small headers: lists, ownership, and the adjectives of errno.
 */
#include <criterion/criterion.h>

#include <fcntl.h>
#include <string.h>

#include "base/err.h"
#include "base/list.h"
#include "base/own.h"

struct item {
	int number;
	struct list link;
};

static int number_of(struct list *link)
{
	return container_of(link, struct item, link)->number;
}

/* The list has exactly these numbers, and the links back agree. */
static void assert_list(struct list *head, size_t n, const int *numbers)
{
	struct list *at = head;
	for (size_t i = 0; i < n; i++) {
		cr_assert_neq(at->next, head, "only %zu of %zu items", i, n);
		cr_assert_eq(at->next->prev, at);
		at = at->next;
		cr_assert_eq(number_of(at), numbers[i]);
	}
	cr_assert_eq(at->next, head);
	cr_assert_eq(head->prev, at);
}

Test(list, an_empty_head_and_a_node_on_no_list_point_to_themselves)
{
	struct list head;
	list_init(&head);
	cr_assert(list_is_empty(&head));
	cr_assert_null(list_first(&head));
	/* Taking off a node that is on no list changes nothing. */
	list_remove(&head);
	cr_assert(list_is_empty(&head));
}

Test(list, keeps_the_order_of_appending)
{
	struct list head;
	struct item item[4];
	list_init(&head);
	for (int i = 0; i < 4; i++) {
		item[i].number = i;
		list_append(&head, &item[i].link);
		cr_assert_eq(list_first(&head), &item[0].link);
	}
	assert_list(&head, 4, (const int[]){0, 1, 2, 3});
}

Test(list, removes_first_middle_last_and_only)
{
	struct list head;
	struct item item[4];
	list_init(&head);
	for (int i = 0; i < 4; i++) {
		item[i].number = i;
		list_append(&head, &item[i].link);
	}
	list_remove(&item[2].link);
	assert_list(&head, 3, (const int[]){0, 1, 3});
	cr_assert(list_is_empty(&item[2].link));
	list_remove(&item[2].link);
	list_remove(&item[0].link);
	list_remove(&item[3].link);
	assert_list(&head, 1, (const int[]){1});
	list_remove(&item[1].link);
	cr_assert(list_is_empty(&head));
}

Test(list, moves_between_lists_and_within_one)
{
	struct list a, b;
	struct item item[3];
	list_init(&a);
	list_init(&b);
	for (int i = 0; i < 3; i++) {
		item[i].number = i;
		list_append(&a, &item[i].link);
	}
	list_move_to_end(&a, &item[0].link);
	assert_list(&a, 3, (const int[]){1, 2, 0});
	list_move_to_end(&a, &item[0].link);
	assert_list(&a, 3, (const int[]){1, 2, 0});
	list_move_to_end(&b, &item[2].link);
	assert_list(&a, 2, (const int[]){1, 0});
	assert_list(&b, 1, (const int[]){2});
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static int open_null(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	return fd;
}

Test(own, a_descriptor_is_closed_with_its_scope_unless_taken)
{
	int kept, gone, before = open_null();
	{
		OWN_FD int fd = open_null();
		OWN_FD int handed_on = open_null();
		OWN_FD int none = -1;
		cr_assert_eq(none, -1);
		gone = fd;
		kept = TAKE_FD(handed_on);
		cr_assert_eq(handed_on, -1);
	}
	cr_assert_not(is_open(gone));
	cr_assert(is_open(kept));
	cr_assert(is_open(before));
	cr_assert_eq(own_close(kept), -1);
	cr_assert_not(is_open(kept));
	(void)own_close(before);
}

Test(own, destructors_take_the_empty_value_and_leave_errno_alone)
{
	int fd = -1;
	void *memory = NULL;
	FILE *file = NULL;
	errno = ENOTTY;
	own_close_p(&fd);
	own_free_p(&memory);
	own_fclose_p(&file);
	cr_assert_eq(own_close(-1), -1);
	/* A descriptor that is none: close fails, errno is still the caller's. */
	cr_assert_eq(own_close(9999), -1);
	cr_assert_eq(errno, ENOTTY);
}

Test(own, memory_and_files_go_with_their_scope_unless_taken)
{
	char *kept;
	int fd;
	{
		OWN_MEM char *gone = strdup("gone");
		OWN_MEM char *handed_on = strdup("kept");
		OWN_FILE FILE *file = fopen("/dev/null", "re");
		cr_assert_not_null(gone);
		cr_assert_not_null(file);
		fd = fileno(file);
		kept = TAKE_PTR(handed_on);
		cr_assert_null(handed_on);
	}
	cr_assert_not(is_open(fd));
	cr_assert_str_eq(kept, "kept");
	free(kept);
}

/* Each errno of accept(2), and the one adjective that it has: 'a' again, 'd' disconnect,
 * 'f' exhausted of descriptors, 'm' exhausted of memory, '-' none: a mistake of ours, or
 * not known. */
static const struct {
	int err;
	char adjective;
} accept_errnos[] = {
        {EAGAIN, 'a'},
        {EWOULDBLOCK, 'a'},
        {EINTR, 'a'},
        {EMFILE, 'f'},
        {ENFILE, 'f'},
        {ENOBUFS, 'm'},
        {ENOMEM, 'm'},
        {ECONNABORTED, 'd'},
        {EPROTO, 'd'},
        /* «already-pending network errors on the new socket», accept(2) */
        {ENETDOWN, 'd'},
        {ENOPROTOOPT, 'd'},
        {EHOSTDOWN, 'd'},
        {ENONET, 'd'},
        {EHOSTUNREACH, 'd'},
        {EOPNOTSUPP, 'd'},
        {ENETUNREACH, 'd'},
        {ETIMEDOUT, 'd'},
        {EPERM, '-'},
        {EBADF, '-'},
        {EFAULT, '-'},
        {EINVAL, '-'},
        {ENOTSOCK, '-'},
        {ENOSR, '-'},
        {ESOCKTNOSUPPORT, '-'},
        {EPROTONOSUPPORT, '-'},
};

Test(err, every_errno_of_accept_has_its_adjective_and_no_other)
{
	for (size_t i = 0; i < ARRAY_SIZE(accept_errnos); i++) {
		int err = accept_errnos[i].err;
		char adjective = accept_errnos[i].adjective;
		cr_assert_eq(err_is_again(err), adjective == 'a', "%s", strerror(err));
		cr_assert_eq(
		        err_is_disconnect(err), adjective == 'd', "%s", strerror(err));
		cr_assert_eq(err_is_exhausted(err), adjective == 'f' || adjective == 'm',
		        "%s", strerror(err));
		cr_assert_eq(err_is_no_fd(err), adjective == 'f', "%s", strerror(err));
	}
}

Test(err, what_recv_and_send_say_of_a_lost_peer_is_a_disconnect)
{
	static const int lost[] = {ECONNRESET, EPIPE, ETIMEDOUT, ENOTCONN, ESHUTDOWN,
	        ECONNREFUSED, ENETRESET, EHOSTUNREACH};
	for (size_t i = 0; i < ARRAY_SIZE(lost); i++)
		cr_assert(err_is_disconnect(lost[i]), "%s", strerror(lost[i]));
	cr_assert_not(err_is_disconnect(0));
	cr_assert_not(err_is_again(0));
	cr_assert_not(err_is_exhausted(0));
}
