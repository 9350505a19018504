import type { RouteRecordRaw } from 'vue-router'

export const inboxRoutes: RouteRecordRaw[] = [
  {
    path: 'inbox/:view(mine|unassigned|waiting|bot|mentions|closed|all)/:id?',
    name: 'inbox',
    component: () => import('./InboxPage.vue'),
    props: true,
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
