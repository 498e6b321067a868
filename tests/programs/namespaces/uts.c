/* state: users=root privilege=root criu=both */
/* A uts namespace of its own: host name and domain name. */
#include "namespaces.h"

int main(void)
{
	char name[64] = "", domain[64] = "";

	MUST(unshare(CLONE_NEWUTS) == 0);
	MUST(sethostname("scene", 5) == 0);
	MUST(setdomainname("domain", 6) == 0);
	await_go();
	MUST(gethostname(name, sizeof(name)) == 0);
	CHECK(strcmp(name, "scene") == 0, "host name %s", name);
	MUST(getdomainname(domain, sizeof(domain)) == 0);
	CHECK(strcmp(domain, "domain") == 0, "domain name %s", domain);
	return verdict();
}
