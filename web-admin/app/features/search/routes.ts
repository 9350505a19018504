import type { RouteRecordRaw } from 'vue-router'

export const searchRoutes: RouteRecordRaw[] = [
  {
    path: 'search',
    name: 'search',
    component: () => import('./SearchPage.vue'),
    meta: {
      audience: 'member',
      permission: 'conversations.read',
      nav: { group: 'inbox', order: 20, label: 'nav.search' },
    },
  },
]
