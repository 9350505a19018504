import type { RouteRecordRaw } from 'vue-router'

/** The message that a link leads to, by its number in the conversation. */
function numberOf(at: unknown): number | null {
  return typeof at === 'string' && /^[1-9]\d{0,15}$/.test(at) ? Number(at) : null
}

export const inboxRoutes: RouteRecordRaw[] = [
  {
    path: 'inbox/:view(mine|unassigned|waiting|bot|mentions|closed|all)/:id?',
    name: 'inbox',
    component: () => import('./InboxPage.vue'),
    props: ({ params, query }) => ({ ...params, at: numberOf(query.at) }),
    meta: {
      audience: 'member',
      permission: 'conversations.read',
      nav: { group: 'inbox', order: 10, label: 'nav.inbox' },
    },
  },
  { path: 'inbox', redirect: { name: 'inbox', params: { view: 'all' } } },
  // Links of earlier versions.
  {
    path: 'conversations/:id?',
    redirect: ({ params }) => ({ name: 'inbox', params: { view: 'all', id: params.id ?? '' } }),
  },
]
