/*
 * list.h - an intrusive doubly linked list. The head is a node; an empty head, and a node
 * on no list, points to itself. No allocation, no failure.
 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *prev, *next;
};

static inline void list_init(struct list *l)
{
	l->prev = l->next = l;
}

static inline bool list_is_empty(const struct list *l)
{
	return l->next == l;
}

/* Takes n off its list, if it is on one. */
static inline void list_remove(struct list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	list_init(n);
}

/* Puts n, which is on no list, at the end. */
static inline void list_append(struct list *head, struct list *n)
{
	n->prev = head->prev;
	n->next = head;
	head->prev->next = n;
	head->prev = n;
}

/* Puts n, which is on no list, at the beginning. */
static inline void list_prepend(struct list *head, struct list *n)
{
	list_append(head->next, n);
}

/* Takes n off whatever list it is on and puts it at the end of head's. */
static inline void list_move_to_end(struct list *head, struct list *n)
{
	list_remove(n);
	list_append(head, n);
}

/* The first node, or NULL. */
static inline struct list *list_first(const struct list *head)
{
	return head->next == head ? NULL : head->next;
}

#endif
