import type { RouteRecordRaw } from 'vue-router'

export const teamRoutes: RouteRecordRaw[] = [
  {
    path: 'team',
    name: 'team',
    component: () => import('./TeamPage.vue'),
    meta: {
      audience: 'member',
      permission: 'members.read',
      nav: { group: 'people', order: 10, label: 'nav.team' },
    },
  },
]
