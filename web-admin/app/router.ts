/** The dashboard's addresses and who may open them; the server judges every call all the same. */

import { createRouter, createWebHistory } from 'vue-router'
import type { RouteLocationNormalized, RouteRecordRaw } from 'vue-router'
import { api } from './api/api'
import { accountRoutes } from './features/account/routes'
import { answersRoutes } from './features/answers/routes'
import { auditRoutes } from './features/audit/routes'
import { blacklistRoutes } from './features/blacklist/routes'
import { companyRoutes } from './features/company/routes'
import { entryRoutes } from './features/entry/routes'
import { contactsRoutes } from './features/contacts/routes'
import { fleetRoutes } from './features/fleet/routes'
import { inboxRoutes } from './features/inbox/routes'
import { instanceRoutes } from './features/instance/routes'
import { keysRoutes } from './features/keys/routes'
import { lettersRoutes } from './features/letters/routes'
import { overviewRoutes } from './features/overview/routes'
import { plansRoutes } from './features/plans/routes'
import { providersRoutes } from './features/providers/routes'
import { queuesRoutes } from './features/queues/routes'
import { rolloutsRoutes } from './features/rollouts/routes'
import { routingRoutes } from './features/routing/routes'
import { searchRoutes } from './features/search/routes'
import { signInRoutes } from './features/signin/routes'
import { signOnRoutes } from './features/signon/routes'
import { teamRoutes } from './features/team/routes'
import { tenantsRoutes } from './features/tenants/routes'
import { webhooksRoutes } from './features/webhooks/routes'
import { loadConsoleWords } from './i18n'
import AppShell from './shell/AppShell.vue'
import type { NavigationGroupName } from './shell/navigation'
import NoticePage from './shell/NoticePage.vue'
import { signedIn } from './signedIn'

declare module 'vue-router' {
  interface RouteMeta {
    /** Whom it is for; without one: whoever is signed in. */
    audience?: 'everyone' | 'operator' | 'member'
    /** What a member must be permitted to see it. */
    permission?: string
    /** Where it stands in the navigation, by its group and then its order. */
    nav?: { group: NavigationGroupName; order: number; label: string }
    /** The page of the navigation that it belongs to, by name. */
    under?: string
  }
}

/** Every feature's pages, inside the shell. */
export const pages: RouteRecordRaw[] = [
  ...inboxRoutes,
  ...searchRoutes,
  ...contactsRoutes,
  ...overviewRoutes,
  ...instanceRoutes,
  ...answersRoutes,
  ...providersRoutes,
  ...blacklistRoutes,
  ...routingRoutes,
  ...teamRoutes,
  ...signOnRoutes,
  ...webhooksRoutes,
  ...keysRoutes,
  ...companyRoutes,
  ...lettersRoutes,
  ...auditRoutes,
  ...accountRoutes,
  ...tenantsRoutes,
  ...plansRoutes,
  ...fleetRoutes,
  ...rolloutsRoutes,
  ...queuesRoutes,
]

const routes: RouteRecordRaw[] = [
  ...signInRoutes,
  ...entryRoutes,
  {
    path: '/unreachable',
    name: 'unreachable',
    component: () => import('./shell/UnreachablePage.vue'),
    meta: { audience: 'everyone' },
  },
  {
    path: '/',
    component: AppShell,
    children: [
      { path: '', name: 'home', component: NoticePage, props: { notice: 'noTenant' } },
      ...pages,
      { path: ':missing(.*)*', name: 'missing', component: NoticePage, props: { notice: 'missing' } },
    ],
  },
]

export const router = createRouter({ history: createWebHistory('/app/'), routes })

router.beforeResolve(async ({ name }) => {
  if (!isOfInbox(name)) await loadConsoleWords()
})

router.beforeEach(async (to) => {
  if (to.meta.audience === 'everyone') return true
  try {
    await signedIn.restore()
  } catch {
    return { name: 'unreachable', query: { next: to.fullPath } }
  }
  if (signedIn.me.value === null) return { name: 'signIn', query: { next: to.fullPath } }
  const start = startName()
  return mayOpen(to) || to.name === start || { name: start }
})

api.onSignedOut = () => {
  signedIn.forget()
  void router.push({ name: 'signIn', query: { next: router.currentRoute.value.fullPath } })
}

function isOfInbox(name: RouteLocationNormalized['name']): boolean {
  return inboxRoutes.some((route) => route.name === name)
}

function mayOpen({ name, meta }: RouteLocationNormalized): boolean {
  return name !== 'home' && signedIn.maySee(meta)
}

/** Home itself is for people who belong to no tenant yet. */
function startName(): string {
  if (signedIn.isTenantMember.value) return 'overview'
  return signedIn.isOperator.value ? 'tenants' : 'home'
}
