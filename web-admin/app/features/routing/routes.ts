import type { RouteRecordRaw } from 'vue-router'

export const routingRoutes: RouteRecordRaw[] = [
  {
    path: 'routing',
    name: 'routing',
    component: () => import('./RoutingArea.vue'),
    meta: {
      audience: 'member',
      permission: 'routing.read',
      nav: { group: 'people', order: 20, label: 'nav.routing' },
    },
    children: [
      { path: '', name: 'routingSettings', component: () => import('./SettingsPage.vue') },
      { path: 'members', name: 'routingMembers', component: () => import('./MembersPage.vue') },
      { path: 'ratings', name: 'ratings', component: () => import('./RatingsPage.vue') },
    ],
  },
]
