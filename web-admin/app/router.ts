/** The dashboard's addresses and who may open them; the server judges every call all the same. */

import { createRouter, createWebHistory } from 'vue-router'
import type { RouteLocationNormalized, RouteRecordRaw } from 'vue-router'
import { api } from './api/api'
import AppShell from './shell/AppShell.vue'
import NoticePage from './shell/NoticePage.vue'
import { signedIn } from './signedIn'

declare module 'vue-router' {
  interface RouteMeta {
    audience?: 'everyone' | 'operator' | 'member'
  }
}

const routes: RouteRecordRaw[] = [
  {
    path: '/sign-in',
    name: 'signIn',
    component: () => import('./signin/SignInPage.vue'),
    meta: { audience: 'everyone' },
  },
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
      {
        path: 'tenants',
        name: 'tenants',
        component: () => import('./tenants/TenantsPage.vue'),
        meta: { audience: 'operator' },
      },
      {
        path: 'overview',
        name: 'overview',
        component: () => import('./overview/OverviewPage.vue'),
        meta: { audience: 'member' },
      },
      {
        path: 'conversations/:id?',
        name: 'conversations',
        component: () => import('./conversations/ConversationsPage.vue'),
        props: true,
        meta: { audience: 'member' },
      },
      {
        path: 'answers',
        name: 'answers',
        component: () => import('./answers/AnswersPage.vue'),
        meta: { audience: 'member' },
      },
      {
        path: ':missing(.*)*',
        name: 'missing',
        component: NoticePage,
        props: { notice: 'missing' },
      },
    ],
  },
]

export const router = createRouter({ history: createWebHistory('/app/'), routes })

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

function mayOpen({ name, meta }: RouteLocationNormalized): boolean {
  if (meta.audience === 'operator') return signedIn.isOperator.value
  if (meta.audience === 'member') return signedIn.isTenantMember.value
  return name !== 'home'
}

/** Home itself is for people who belong to no tenant yet. */
function startName(): string {
  if (signedIn.isTenantMember.value) return 'overview'
  return signedIn.isOperator.value ? 'tenants' : 'home'
}
