/* state: users=root,user privilege=none criu=both also=set_user_id */
/* Seals of memfds. */
#include "scene.h"

#include <sys/mman.h>

int main(void)
{
	int sealed = TRY(memfd_create("sealed", MFD_ALLOW_SEALING)), unsealable = TRY(memfd_create("unsealable", 0));
	char text[16];

	MUST(write(sealed, "contents", 8) == 8);
	MUST(fcntl(sealed, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0);
	await_go();
	CHECK(fcntl(sealed, F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), "seals %#x",
	      fcntl(sealed, F_GET_SEALS));
	CHECK(pwrite(sealed, "x", 1, 0) == -1 && errno == EPERM, "a sealed memfd takes bytes");
	CHECK(pread(sealed, text, 9, 0) == 8 && memcmp(text, "contents", 8) == 0, "contents of a sealed memfd");
	CHECK(fcntl(unsealable, F_GET_SEALS) == F_SEAL_SEAL, "seals %#x", fcntl(unsealable, F_GET_SEALS));
	return verdict();
}
