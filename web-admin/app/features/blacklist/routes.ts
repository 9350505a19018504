import type { RouteRecordRaw } from 'vue-router'

export const blacklistRoutes: RouteRecordRaw[] = [
  {
    path: 'blacklist',
    name: 'blacklist',
    component: () => import('./BlacklistPage.vue'),
    meta: {
      audience: 'member',
      permission: 'blacklist.read',
      nav: { group: 'people', order: 30, label: 'nav.blacklist' },
    },
  },
]
