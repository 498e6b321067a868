/* What the programs with an epoll share. */
#ifndef EVENTS_H
#define EVENTS_H

#include "scene.h"

#include <sys/epoll.h>

static UNUSED int ready_within(int epoll, uint64_t wanted, int milliseconds)
{
	struct epoll_event events[16];
	int count = epoll_wait(epoll, events, 16, milliseconds);

	for (int i = 0; i < count; i++)
		if (events[i].data.u64 == wanted)
			return 1;
	return 0;
}

static UNUSED void add(int epoll, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = { .events = events, .data = { .u64 = data } };

	MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
}

#endif
