import type { RouteRecordRaw } from 'vue-router'

export const accountRoutes: RouteRecordRaw[] = [
  {
    path: 'account',
    name: 'account',
    component: () => import('./AccountPage.vue'),
    meta: { nav: { group: 'personal', order: 10, label: 'nav.account' } },
  },
]
